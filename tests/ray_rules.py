"""What KubeRay takes: its CRD's schema made strict, and the rules of its operator (`validation.go`, v1.7)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import yaml
from jsonschema import Draft202012Validator  # type: ignore[import-untyped]  # it ships no annotations

from tests.manifests import CRDS, Document, cluster_of

NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")  # DNS-1035
MODES = ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode")  # the CRD takes any word


@cache
def validator(kind: str) -> Draft202012Validator:
    """Checks an object of `kind` against its CRD, unknown fields included."""
    text = (CRDS / f"ray.io_{kind.lower()}s.yaml").read_text()
    versions = yaml.load(text, yaml.CSafeLoader)["spec"]["versions"]
    [schema] = [version["schema"]["openAPIV3Schema"] for version in versions if version["name"] == "v1"]
    schema["properties"]["metadata"] = {"type": "object", "required": ["name"]}
    return Draft202012Validator(_strict(schema))


def _strict(schema: Any) -> Any:  # noqa: ANN401  # any JSON
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: _strict(value) for key, value in schema.items()}
    if isinstance(made.get("properties"), dict) and made.get("type") == "object":
        made.setdefault("additionalProperties", bool(made.get("x-kubernetes-preserve-unknown-fields")))
    return made


def complaints(document: Document) -> list[str]:
    """What KubeRay's operator would refuse or stall on, though the API server takes it."""
    cluster = cluster_of(document)
    found = [*_of_name(document), *_of_cluster(cluster)]
    for group in cluster["workerGroupSpecs"]:
        found += _of_group(group, cluster)
    if document["kind"] == "RayJob":
        found += [*_of_job(document["spec"]), *_ours(document["spec"])]
    return found


def _of_name(document: Document) -> Iterator[str]:
    name, most = document["metadata"]["name"], 47 if document["kind"] == "RayJob" else 53
    if len(name) > most or not NAME.fullmatch(name):
        yield f"the name {name} is not DNS-1035 of at most {most} characters"


def _of_cluster(cluster: Document) -> Iterator[str]:
    scales = bool(cluster.get("enableInTreeAutoscaling"))
    is_v2 = scales and cluster.get("autoscalerOptions", {}).get("version") == "v2"
    templates = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    if is_v2 and any(t["template"]["spec"].get("restartPolicy", "Never") != "Never" for t in templates):
        yield "autoscaler v2 needs restartPolicy Never"
    if cluster.get("authOptions", {}).get("mode") == "token" and _version(cluster) < (2, 52):
        yield "token auth needs Ray 2.52"
    if cluster.get("authOptions", {}).get("enableK8sTokenAuth"):
        yield "Kubernetes token auth is not for RayJobs"
    head = cluster["headGroupSpec"]
    if any(name.startswith("redis") for name in head.get("rayStartParams", {})):
        yield "Redis goes into gcsFaultToleranceOptions"
    for spec in templates:
        parameters = spec.get("rayStartParams", {})
        if spec.get("resources") and {"num-cpus", "num-gpus", "memory", "resources"} & set(parameters):
            yield "rayStartParams and the group's resources exclude each other"
        if "labels" in parameters:
            yield "labels go into the group's labels"
    names = [group["groupName"] for group in cluster["workerGroupSpecs"]]
    if len(set(names)) != len(names):
        yield "two worker groups have the same name"


def _of_group(group: Document, cluster: Document) -> Iterator[str]:
    name, scales = group["groupName"], bool(cluster.get("enableInTreeAutoscaling"))
    is_v2 = scales and cluster.get("autoscalerOptions", {}).get("version") == "v2"
    if group.get("idleTimeoutSeconds") is not None and not is_v2:
        yield f"{name}: idleTimeoutSeconds needs autoscaler v2"
    if group.get("suspend") and scales:
        yield f"{name}: suspend excludes autoscaling"
    if not scales and not {"minReplicas", "maxReplicas"} <= set(group):
        yield f"{name}: without autoscaling minReplicas and maxReplicas must be there"
    least, most, now = (group.get(key, 0) for key in ("minReplicas", "maxReplicas", "replicas"))
    if not least <= now <= most:
        yield f"{name}: {now} replicas are not between {least} and {most}"


def _of_job(spec: Document) -> Iterator[str]:
    mode = spec.get("submissionMode", "K8sJobMode")
    if mode not in MODES:
        yield f"submissionMode {mode} is not one of {', '.join(MODES)}"
    if spec.get("suspend") and not spec.get("shutdownAfterJobFinishes"):
        yield "suspend needs shutdownAfterJobFinishes"
    if spec.get("ttlSecondsAfterFinished") and not spec.get("shutdownAfterJobFinishes"):
        yield "a TTL needs shutdownAfterJobFinishes"
    if spec.get("deletionStrategy", {}).get("deletionRules") and spec.get("shutdownAfterJobFinishes"):
        yield "deletionRules exclude shutdownAfterJobFinishes"
    if spec.get("clusterSelector") and (spec.get("suspend") or mode == "SidecarMode" or spec.get("backoffLimit")):
        yield "clusterSelector excludes suspend, SidecarMode and backoffLimit"
    if mode == "InteractiveMode" and spec.get("backoffLimit"):
        yield "InteractiveMode excludes backoffLimit"
    if mode == "SidecarMode" and (spec.get("submitterPodTemplate") or spec.get("submitterConfig")):
        yield "SidecarMode excludes submitterPodTemplate and submitterConfig"


def _ours(spec: Document) -> Iterator[str]:
    """What our own jobs always have: an end, whatever goes wrong."""
    wanted = ("preRunningDeadlineSeconds", "activeDeadlineSeconds", "ttlSecondsAfterFinished")
    yield from (f"{name} is not set" for name in wanted if not spec.get(name))
    if not spec.get("shutdownAfterJobFinishes"):
        yield "shutdownAfterJobFinishes is not set"
    if not spec.get("submitterConfig", {}).get("backoffLimit"):
        yield "the submitter does not try again"
    if not spec["submitterPodTemplate"]["spec"].get("activeDeadlineSeconds"):
        yield "the submitter has no deadline"


def _version(cluster: Document) -> tuple[int, ...]:
    return tuple(map(int, cluster["rayVersion"].split(".")))
