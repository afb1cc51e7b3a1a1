"""What must hold of a RayJob's manifest, so that an operator's slip is told at the start, not found in a stalled job.

The API server takes what its schema allows. KubeRay's operator has rules of its own beside that, and only notes an
event where one is broken; some words (`submissionMode`) that it does not know are no error anywhere. The rules here are
those of KubeRay 1.7 (controllers/ray/utils/validation.go), and those that Tuneyard needs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

QUEUE: Final = "kueue.x-k8s.io/queue-name"
MODES: Final = ("K8sJobMode", "HTTPMode", "SidecarMode")
POLICIES: Final = ("DeleteCluster", "DeleteWorkers", "DeleteSelf", "DeleteNone")
MOST_GROUPS_WITH_KUEUE: Final = 7  # a workload of Kueue's has eight pod sets, and the head is one
_NAME: Final = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_LABEL: Final = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_VERSION: Final = re.compile(r"(\d+)\.(\d+)(\.\d+)?")
_TOKEN_SINCE: Final = (2, 52)
_V2_SINCE: Final = (2, 47)
_MOST_NAME: Final = 47  # of a RayJob: KubeRay makes longer names of it
_RAY_RESOURCES: Final = ("num-cpus", "num-gpus", "memory", "resources")
_IN_HEAD: Final = ("RAY_REDIS_ADDRESS", "REDIS_PASSWORD", "REDIS_USERNAME")
_OWN: Final = "tuneyard.dev/"
_GCS: Final = "spec.rayClusterSpec.gcsFaultToleranceOptions"
CLUSTERS: Final = f"{_OWN}clusters"  # on the template: how many clusters of sweeps there may be at once


def is_name(text: str) -> bool:
    """Whether a RayJob may have this name: a DNS label that begins with a letter, short enough for KubeRay."""
    return len(text) <= _MOST_NAME and bool(_NAME.fullmatch(text))


def faults(manifest: object, *, is_shared: bool = False) -> list[str]:
    """Everything wrong with a RayJob's manifest, each as `path: what is wrong`; for a shared RayCluster `is_shared`."""
    if not isinstance(manifest, Mapping):
        return [f"(top): must be a RayJob, not {type(manifest).__name__}"]
    spec = manifest.get("spec")
    if (manifest.get("apiVersion"), manifest.get("kind")) != ("ray.io/v1", "RayJob") or not isinstance(spec, Mapping):
        return ["(top): must be a RayJob with `apiVersion: ray.io/v1`, `kind: RayJob` and a `spec`"]
    found = [*_of_job(spec), *_deletion(spec), *_queue(manifest, spec, is_shared=is_shared)]
    if is_shared:
        return [*found, *_shared(spec)]
    cluster = spec.get("rayClusterSpec")
    if not isinstance(cluster, Mapping):
        return [*found, "spec.rayClusterSpec: is missing; without one, name a shared cluster with --kube-cluster"]
    if spec.get("clusterSelector"):
        found.append("spec.clusterSelector: a shared cluster is named with --kube-cluster, not in the template")
    return [*found, *_cluster(spec, cluster)]


def _of_job(spec: Mapping[str, Any]) -> Iterator[str]:
    mode = spec.get("submissionMode", MODES[0])
    if mode not in MODES:
        yield f"spec.submissionMode: is {mode!r}, and must be one of {', '.join(MODES)}"
    if mode == "SidecarMode":
        for key in ("submitterPodTemplate", "submitterConfig"):
            if spec.get(key):
                yield f"spec.{key}: SidecarMode has no submitter of its own"
    yield from _numbers(spec)
    if spec.get("jobId"):
        yield "spec.jobId: KubeRay makes one for each job; leave it out"


def _numbers(spec: Mapping[str, Any]) -> Iterator[str]:
    for key in ("activeDeadlineSeconds", "preRunningDeadlineSeconds"):
        if spec.get(key) is not None and not _is_count(spec[key], least=1):
            yield f"spec.{key}: is {spec[key]!r}, and must be a whole number of seconds above 0"
    for key in ("backoffLimit", "ttlSecondsAfterFinished"):
        if not _is_count(spec.get(key, 0), least=0):
            yield f"spec.{key}: is {spec[key]!r}, and must be a whole number, 0 or more"


def _deletion(spec: Mapping[str, Any]) -> Iterator[str]:
    ends, strategy = spec.get("shutdownAfterJobFinishes") is True, spec.get("deletionStrategy")
    if spec.get("ttlSecondsAfterFinished") and not ends:
        yield "spec.ttlSecondsAfterFinished: needs `shutdownAfterJobFinishes: true`"
    if spec.get("suspend") and not ends:
        yield "spec.suspend: needs `shutdownAfterJobFinishes: true`"
    if spec.get("rayClusterSpec") and not ends and not strategy:
        yield "spec.shutdownAfterJobFinishes: must be true, or there must be a deletionStrategy: clusters would stay"
    if not isinstance(strategy, Mapping):
        return
    rules = strategy.get("deletionRules") or []
    if rules and ends:
        yield "spec.deletionStrategy.deletionRules: excludes `shutdownAfterJobFinishes: true`"
    if rules and (strategy.get("onSuccess") or strategy.get("onFailure")):
        yield "spec.deletionStrategy: has deletionRules beside onSuccess and onFailure; use one of them"
    for number, rule in enumerate(rules):
        policy = rule.get("policy")
        if policy not in POLICIES:
            yield f"spec.deletionStrategy.deletionRules[{number}].policy: must be one of {', '.join(POLICIES)}"
        if policy == "DeleteWorkers" and _autoscales(spec.get("rayClusterSpec") or {}):
            yield f"spec.deletionStrategy.deletionRules[{number}].policy: no DeleteWorkers with the autoscaler"


def _queue(manifest: Mapping[str, Any], spec: Mapping[str, Any], *, is_shared: bool) -> Iterator[str]:
    metadata = manifest.get("metadata") or {}
    for kind in ("labels", "annotations"):
        for key in metadata.get(kind) or {}:
            if key.startswith(_OWN) and (kind, key) != ("annotations", CLUSTERS):
                yield f"metadata.{kind}.{key}: is set for each sweep; leave it out"
    if QUEUE not in (metadata.get("labels") or {}):
        if spec.get("suspend"):
            yield f"spec.suspend: nobody would ever start the job; Kueue does with the label {QUEUE}"
        return
    if is_shared:
        yield f"metadata.labels.{QUEUE}: Kueue admits no jobs of a shared cluster"
    if spec.get("shutdownAfterJobFinishes") is not True:
        yield f"spec.shutdownAfterJobFinishes: must be true for Kueue (label {QUEUE})"
    groups = (spec.get("rayClusterSpec") or {}).get("workerGroupSpecs") or []
    if len(groups) > MOST_GROUPS_WITH_KUEUE:
        yield f"spec.rayClusterSpec.workerGroupSpecs: Kueue takes at most {MOST_GROUPS_WITH_KUEUE} groups"


def _shared(spec: Mapping[str, Any]) -> Iterator[str]:
    if spec.get("submissionMode") == "SidecarMode":
        yield "spec.submissionMode: no SidecarMode on a shared cluster (--kube-cluster)"
    if spec.get("backoffLimit"):
        yield "spec.backoffLimit: must be 0 on a shared cluster (--kube-cluster)"


def _cluster(spec: Mapping[str, Any], cluster: Mapping[str, Any]) -> Iterator[str]:
    here, head = "spec.rayClusterSpec", cluster.get("headGroupSpec")
    if not isinstance(head, Mapping):
        yield f"{here}.headGroupSpec: is missing"
        return
    groups = list(cluster.get("workerGroupSpecs") or [])
    places = [f"{here}.workerGroupSpecs[{number}]" for number in range(len(groups))]
    for place, group in [(f"{here}.headGroupSpec", head), *zip(places, groups, strict=True)]:
        yield from _group(place, group)
    yield from _head(f"{here}.headGroupSpec", head, cluster)
    never = spec.get("submissionMode") == "SidecarMode" or _is_v2(cluster)
    if never and _restart_policy(head) not in ("", "Never"):
        yield f"{here}.headGroupSpec.template.spec.restartPolicy: must be Never, or left out"
    for place, group in zip(places, groups, strict=True):
        yield from _workers(place, group, cluster)
    yield from _version(here, cluster)


def _group(place: str, group: Mapping[str, Any]) -> Iterator[str]:
    start = group.get("rayStartParams") or {}
    if not _containers(group):
        yield f"{place}.template.spec.containers: there must be one"
    if group.get("resources") and any(start.get(name) for name in _RAY_RESOURCES):
        yield f"{place}.resources: excludes {', '.join(_RAY_RESOURCES)} in rayStartParams"
    if "labels" in start:
        yield f"{place}.rayStartParams.labels: use {place}.labels"
    for key, value in (group.get("labels") or {}).items():
        if not _LABEL.fullmatch(str(value)):
            yield f"{place}.labels.{key}: {value!r} is no value of a label"
    if any(not isinstance(value, str) for value in start.values()):
        yield f"{place}.rayStartParams: every value must be a text; put numbers in quotes"


def _head(place: str, head: Mapping[str, Any], cluster: Mapping[str, Any]) -> Iterator[str]:
    containers = _containers(head)
    names = {entry.get("name") for entry in (containers[0].get("env") or [])} if containers else set()
    for name in _IN_HEAD:
        if name in names:
            yield f"{place}.template.spec.containers[0].env: {name} belongs into {_GCS}"
    for key in ("redis-password", "redis-username"):
        if (head.get("rayStartParams") or {}).get(key):
            yield f"{place}.rayStartParams.{key}: belongs into {_GCS}"
    if "RAY_enable_autoscaler_v2" in names:
        yield f"{place}.template.spec.containers[0].env: set autoscalerOptions.version, not RAY_enable_autoscaler_v2"
    if cluster.get("suspend"):
        yield "spec.rayClusterSpec.suspend: the cluster of a job is suspended with the job alone"


def _workers(place: str, group: Mapping[str, Any], cluster: Mapping[str, Any]) -> Iterator[str]:
    least, most = group.get("minReplicas"), group.get("maxReplicas")
    if _autoscales(cluster):
        if group.get("suspend"):
            yield f"{place}.suspend: excludes the autoscaler"
        if most is None:
            yield f"{place}.maxReplicas: is missing; without one a sweep may take every node that money can buy"
    elif group.get("replicas") is None and (least is None or most is None):
        yield f"{place}.replicas: is missing, and without the autoscaler nobody else decides it"
    if isinstance(least, int) and isinstance(most, int) and least > most:
        yield f"{place}.minReplicas: is {least}, above maxReplicas {most}"
    if _is_v2(cluster):
        if _restart_policy(group) not in ("", "Never"):
            yield f"{place}.template.spec.restartPolicy: must be Never, or left out, with the autoscaler v2"
    elif group.get("idleTimeoutSeconds") is not None:
        yield f"{place}.idleTimeoutSeconds: only with the autoscaler v2 (autoscalerOptions.version: v2)"


def _version(here: str, cluster: Mapping[str, Any]) -> Iterator[str]:
    options, version = cluster.get("authOptions"), cluster.get("rayVersion")
    parts = _VERSION.match(str(version or ""))
    if version and parts is None:
        yield f"{here}.rayVersion: {version!r} is no version, as in 2.60.0"
    if options is not None and (options or {}).get("mode", "token") == "token":
        since = ".".join(map(str, _TOKEN_SINCE))
        if not version or (parts is not None and (int(parts[1]), int(parts[2])) < _TOKEN_SINCE):
            yield f"{here}.rayVersion: authOptions need Ray {since} or later, and that it is said here"
    chosen = (cluster.get("autoscalerOptions") or {}).get("version")
    if chosen not in (None, "v1", "v2"):
        yield f"{here}.autoscalerOptions.version: is {chosen!r}, and must be v1 or v2"


def _autoscales(cluster: Mapping[str, Any]) -> bool:
    return cluster.get("enableInTreeAutoscaling") is True


def _is_v2(cluster: Mapping[str, Any]) -> bool:
    if not _autoscales(cluster):
        return False
    chosen = (cluster.get("autoscalerOptions") or {}).get("version")
    parts = _VERSION.match(str(cluster.get("rayVersion") or ""))
    return chosen == "v2" or (chosen is None and parts is not None and (int(parts[1]), int(parts[2])) >= _V2_SINCE)


def _containers(group: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(((group.get("template") or {}).get("spec") or {}).get("containers") or [])


def _restart_policy(group: Mapping[str, Any]) -> str:
    return str(((group.get("template") or {}).get("spec") or {}).get("restartPolicy") or "")


def _is_count(value: object, *, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
