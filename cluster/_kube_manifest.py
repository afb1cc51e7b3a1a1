"""The operator's RayJob template: read once, checked, and filled in with the few fields that differ for each sweep."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from cluster import _kube_rules as rules
from cluster._entry import entrypoint, is_plain, plain_environment
from cluster._ray_attempt import ATTEMPT, JOB
from cluster.backend import Capacity, JobError, JobRequest, Node
from cluster.ray_jobs import STOP_WAIT_S

JOB_LABEL, ATTEMPT_LABEL = "tuneyard.dev/job", "tuneyard.dev/attempt"
MANAGED_BY: Final = "app.kubernetes.io/managed-by"
OURS: Final = "tuneyard"
SELECTOR: Final = f"{MANAGED_BY}={OURS},{JOB_LABEL}"  # of what was made here
GROWS: Final = "TUNEYARD_CLUSTER_GROWS"  # in a job's environment: nodes that are not there yet come for its trials
PRE_RUNNING_S: Final = 1800  # for nodes to come, images to be pulled and the job to begin, where the template is silent
QUEUED_CLUSTERS: Final = 100  # of sweeps that are handed to Kueue at once: it has the quotas, and admits in this order
_SUBMITTER_TRIES: Final = 2
_MOST_NODES: Final = 10_000
_UNITS: Final = {"": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15,
                 "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50}  # fmt: skip
_QUANTITY: Final = re.compile(r"([0-9.]+)([a-zA-Z]*)")
_GPUS: Final = ("nvidia.com/gpu", "amd.com/gpu", "intel.com/gpu")


@dataclass(frozen=True, slots=True)
class Group:
    """Worker pods of one kind: what each has for trials, and how many there may be."""

    name: str
    least: int
    most: int
    node: Node


class Template:
    """A RayJob's manifest as an operator has written it; `shared` names a RayCluster to run on instead of a new one."""

    def __init__(self, manifest: Mapping[str, Any], source: str, shared: str | None = None) -> None:
        found = rules.faults(manifest, is_shared=shared is not None)
        if found:
            lines = "\n".join(f"  {fault}" for fault in found)
            msg = f"the template {source} cannot be used:\n{lines}"
            raise JobError(msg)
        self._manifest, self.shared = copy.deepcopy(dict(manifest)), shared
        metadata = self._manifest.get("metadata") or {}
        self.is_queued = rules.QUEUE in (metadata.get("labels") or {})
        self._clusters = self._count((metadata.get("annotations") or {}).get(rules.CLUSTERS, "1"), source)
        self._runtime = self._runtime_of(source)

    @classmethod
    def read(cls, path: Path, shared: str | None = None) -> Template:
        """The template in a file. JobError where it is none, with every fault in it and where it is."""
        try:
            documents = [document for document in yaml.safe_load_all(path.read_text()) if document is not None]
        except OSError as error:
            msg = f"the RayJob template {path} cannot be read: {error.strerror}; name it with --kube-template"
            raise JobError(msg) from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            msg = f"the RayJob template {path} is no YAML: {error}"
            raise JobError(msg) from error
        if len(documents) != 1:
            msg = f"the RayJob template {path} holds {len(documents)} objects; it must hold one RayJob"
            raise JobError(msg)
        return cls(documents[0], str(path), shared)

    def fill(self, request: JobRequest) -> dict[str, Any]:
        """The RayJob for a request. JobError where a RayJob cannot hold it."""
        if any("$" in requirement or "`" in requirement for requirement in request.pip):
            msg = f"job {request.job_id} asks for pip packages with a character that a shell on the way would change"
            raise JobError(msg)
        made = copy.deepcopy(self._manifest)
        made["metadata"] = self._metadata(request)
        spec = made["spec"]
        spec.update(
            entrypoint=entrypoint(request),
            runtimeEnvYAML=yaml.safe_dump(self._environment(request), sort_keys=True),
            metadata={
                **(spec.get("metadata") or {}),
                **{key: value for key, value in request.metadata.items() if is_plain(value)},
                JOB: request.job_id,
                ATTEMPT: str(request.attempt),
            },
        )
        reserved = {"entrypointNumCpus": request.cpu, "entrypointNumGpus": request.gpu}
        spec.update({name: amount for name, amount in reserved.items() if amount})
        spec.setdefault("preRunningDeadlineSeconds", PRE_RUNNING_S)
        if spec.get("submissionMode", rules.MODES[0]) == rules.MODES[0]:
            spec.setdefault("submitterConfig", {"backoffLimit": _SUBMITTER_TRIES})
        if self.shared is not None:
            for key in ("rayClusterSpec", "suspend", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished"):
                spec.pop(key, None)
            spec["clusterSelector"] = {"ray.io/cluster": self.shared}
        elif self.is_queued:
            spec["suspend"] = True  # until Kueue admits it
        return made

    def capacity(self) -> Capacity:
        """What the clusters of all sweeps may have together, once they have grown as far as they may."""
        clusters = QUEUED_CLUSTERS if self.is_queued else self._clusters
        return capacity_of(self.groups(), clusters)

    def groups(self) -> list[Group]:
        """The groups of its cluster that trials may run on."""
        return groups_of(self._manifest["spec"].get("rayClusterSpec") or {})

    def _metadata(self, request: JobRequest) -> dict[str, Any]:
        metadata = self._manifest.get("metadata") or {}
        own = {JOB_LABEL: request.job_id, ATTEMPT_LABEL: str(request.attempt), MANAGED_BY: OURS}
        kept = {key: value for key, value in metadata.items() if key == "annotations"}
        return {**kept, "name": request.job_id, "labels": {**(metadata.get("labels") or {}), **own}}

    def _environment(self, request: JobRequest) -> dict[str, Any]:
        own = {"RAY_JOB_STOP_SIGNAL": "SIGINT", "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S), GROWS: "1"}
        given = {**own, **(self._runtime.get("env_vars") or {}), **plain_environment(request)}
        pip = {"pip": list(request.pip)} if request.pip else {}
        return {**self._runtime, "env_vars": given, **pip}

    def _runtime_of(self, source: str) -> dict[str, Any]:
        text = self._manifest["spec"].get("runtimeEnvYAML") or "{}"
        try:
            found = yaml.safe_load(text)
        except yaml.YAMLError:
            found = None
        if not isinstance(found, dict):
            msg = f"the template {source} cannot be used:\n  spec.runtimeEnvYAML: must be a mapping in YAML"
            raise JobError(msg)
        return found

    @staticmethod
    def _count(text: object, source: str) -> int:
        if not str(text).isdecimal() or not int(str(text)):
            msg = f"the template {source} cannot be used:\n  metadata.annotations.{rules.CLUSTERS}: must be 1 or more"
            raise JobError(msg)
        return int(str(text))


def groups_of(cluster: Mapping[str, Any]) -> list[Group]:
    """The groups of a RayCluster's spec, its head among them where trials may run there."""
    grows = cluster.get("enableInTreeAutoscaling") is True
    found = [Group("head", 1, 1, _node(cluster.get("headGroupSpec") or {}))]
    for group in cluster.get("workerGroupSpecs") or []:
        hosts, replicas = int(group.get("numOfHosts") or 1), int(group.get("replicas") or group.get("minReplicas") or 0)
        least = int(group.get("minReplicas") or 0) if grows else replicas
        most = int(group.get("maxReplicas") or replicas) if grows else replicas
        found.append(Group(str(group.get("groupName")), least * hosts, most * hosts, _node(group)))
    return [group for group in found if group.most and (group.node.cpus or group.node.gpus)]


def capacity_of(groups: list[Group], clusters: int = 1) -> Capacity:
    """What so many clusters of these groups have once they have grown as far as they may."""
    nodes = sum(group.most for group in groups) * clusters
    each = [group.node for group in groups for _ in range(min(group.most, _MOST_NODES))]
    return Capacity(
        sum(group.node.cpus * group.most for group in groups) * clusters,
        sum(group.node.gpus * group.most for group in groups) * clusters,
        nodes,
        tuple(each * clusters) if len(each) * clusters <= _MOST_NODES else tuple(each[:_MOST_NODES]),
    )


def _node(group: Mapping[str, Any]) -> Node:
    """What Ray will count on a pod of the group: as its start is told, else what KubeRay reads off its container."""
    start, said = group.get("rayStartParams") or {}, group.get("resources") or {}
    containers = ((group.get("template") or {}).get("spec") or {}).get("containers") or [{}]
    asked = containers[0].get("resources") or {}
    has = {**(asked.get("requests") or {}), **(asked.get("limits") or {})}
    gpus = sum(quantity(has.get(name, 0)) for name in _GPUS)
    cpus = start.get("num-cpus") or said.get("CPU") or math.ceil(quantity(has.get("cpu", 0)))  # as KubeRay rounds
    memory = start.get("memory") or said.get("memory") or (asked.get("limits") or {}).get("memory") or math.inf
    return Node(quantity(cpus), quantity(start.get("num-gpus") or said.get("GPU") or gpus), quantity(memory))


def quantity(text: object) -> float:
    """A Kubernetes quantity as a number. JobError where it is none."""
    parts = _QUANTITY.fullmatch(str(text))
    try:
        return float(parts[1]) * _UNITS[parts[2]] if parts is not None else float(str(text))
    except (ValueError, KeyError):
        msg = f"{text!r} is no quantity as Kubernetes has them (500m, 4, 8Gi)"
        raise JobError(msg) from None
