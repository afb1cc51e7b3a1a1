"""The linter of the operator's template: what KubeRay would stall on is told at the start, with its place."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster._kube_manifest import Template, quantity
from cluster._kube_rules import QUEUE, faults, is_name
from cluster.backend import Capacity, JobError, JobRequest, Node
from tests.kube.place import TEMPLATE
from tests.kube.schemas import Schema, needs_crds, schemas

GOOD: dict[str, Any] = yaml.safe_load(TEMPLATE.read_text())
CLUSTER = "spec.rayClusterSpec"
HEAD, WORKERS = f"{CLUSTER}.headGroupSpec", f"{CLUSTER}.workerGroupSpecs[0]"
Change = Callable[[dict[str, Any]], object]


def changed(*changes: tuple[str, object]) -> dict[str, Any]:
    """The good template with values put at paths; None takes them away."""
    made = copy.deepcopy(GOOD)
    for path, value in changes:
        *way, last = path.replace("[0]", ".0").split(".")
        here: Any = made
        for step in way:
            here = here[int(step)] if isinstance(here, list) else here.setdefault(step, {})
        key = int(last) if isinstance(here, list) else last
        if value is None:
            here.pop(key)
        else:
            here[key] = value
    return made


def test_a_good_template_has_no_faults() -> None:
    assert faults(GOOD) == []
    assert faults(GOOD, is_shared=True) == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ([("kind", "RayCluster")], "(top): must be a RayJob"),
        ([("spec.submissionMode", "K8sJobmode")], "spec.submissionMode: is 'K8sJobmode'"),
        ([("spec.submissionMode", "InteractiveMode")], "spec.submissionMode: is 'InteractiveMode'"),
        ([("spec.submissionMode", "SidecarMode"), ("spec.submitterConfig", {"backoffLimit": 1})], "submitterConfig"),
        ([("spec.submissionMode", "SidecarMode"), (f"{HEAD}.template.spec.restartPolicy", "Always")], "restartPolicy"),
        ([("spec.shutdownAfterJobFinishes", False)], "spec.ttlSecondsAfterFinished: needs"),
        ([("spec.shutdownAfterJobFinishes", None), ("spec.ttlSecondsAfterFinished", None)], "clusters would stay"),
        ([("spec.suspend", True)], "spec.suspend: nobody would ever start the job"),
        ([("spec.preRunningDeadlineSeconds", 0)], "spec.preRunningDeadlineSeconds: is 0"),
        ([("spec.activeDeadlineSeconds", "1h")], "spec.activeDeadlineSeconds: is '1h'"),
        ([("spec.backoffLimit", -1)], "spec.backoffLimit: is -1"),
        ([("spec.jobId", "mine")], "spec.jobId: KubeRay makes one"),
        ([("spec.rayClusterSpec", None)], "spec.rayClusterSpec: is missing"),
        ([("spec.clusterSelector", {"ray.io/cluster": "x"})], "spec.clusterSelector"),
        ([("spec.deletionStrategy.deletionRules", [{"policy": "DeleteSelf"}])], "deletionRules: excludes"),
        ([("spec.deletionStrategy.deletionRules", [{"policy": "DeleteAll"}])], "deletionRules[0].policy: must be one"),
        ([("spec.deletionStrategy.deletionRules", [{"policy": "DeleteWorkers"}])], "no DeleteWorkers"),
        ([("metadata.annotations", {"tuneyard.dev/stop": "1"})], "metadata.annotations.tuneyard.dev/stop"),
        ([(f"{HEAD}.template.spec.containers", [])], f"{HEAD}.template.spec.containers"),
        ([(f"{HEAD}.resources", {"CPU": "1"})], f"{HEAD}.resources: excludes"),
        ([(f"{WORKERS}.rayStartParams.labels", "a=b")], f"{WORKERS}.rayStartParams.labels: use"),
        ([(f"{WORKERS}.rayStartParams.num-cpus", 2)], f"{WORKERS}.rayStartParams: every value must be a text"),
        ([(f"{WORKERS}.labels", {"zone": "no label!"})], f"{WORKERS}.labels.zone"),
        ([(f"{WORKERS}.template.spec.restartPolicy", "Always")], f"{WORKERS}.template.spec.restartPolicy"),
        ([(f"{WORKERS}.maxReplicas", None)], f"{WORKERS}.maxReplicas: is missing"),
        ([(f"{WORKERS}.minReplicas", 9)], f"{WORKERS}.minReplicas: is 9, above maxReplicas 1"),
        ([(f"{WORKERS}.suspend", True)], f"{WORKERS}.suspend: excludes the autoscaler"),
        ([(f"{CLUSTER}.autoscalerOptions.version", "v3")], "autoscalerOptions.version: is 'v3'"),
        ([(f"{CLUSTER}.autoscalerOptions.version", "v1"), (f"{WORKERS}.idleTimeoutSeconds", 9)], "idleTimeoutSeconds"),
        ([(f"{CLUSTER}.enableInTreeAutoscaling", False), (f"{WORKERS}.minReplicas", None)], f"{WORKERS}.replicas"),
        ([(f"{CLUSTER}.authOptions", {}), (f"{CLUSTER}.rayVersion", "2.50.0")], "rayVersion: authOptions"),
        ([(f"{CLUSTER}.rayVersion", "latest")], f"{CLUSTER}.rayVersion: 'latest'"),
        ([(f"{HEAD}.template.spec.containers[0].env", [{"name": "RAY_REDIS_ADDRESS"}])], "gcsFaultToleranceOptions"),
        ([(f"{HEAD}.rayStartParams.redis-password", "x")], "gcsFaultToleranceOptions"),
    ],
)  # fmt: skip
def test_a_fault_is_told_with_its_place(changes: list[tuple[str, object]], said: str) -> None:
    assert any(said in fault for fault in faults(changed(*changes))), faults(changed(*changes))


def queued(**spec: object) -> dict[str, Any]:
    made = changed(*((f"spec.{key}", value) for key, value in spec.items()))
    made["metadata"]["labels"][QUEUE] = "sweeps"
    return made


def test_with_kueue_a_job_is_made_suspended_and_the_controller_has_no_second_quota() -> None:
    made = Template(queued(), "t").fill(JobRequest("a-job", ("true",), "/"))
    assert (made["spec"]["suspend"], made["metadata"]["labels"][QUEUE]) == (True, "sweeps")
    assert Template(queued(), "t").capacity().cpus >= 100 * Template(GOOD, "t").capacity().cpus
    groups = [GOOD["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]] * 8
    bad = queued()
    bad["spec"]["rayClusterSpec"]["workerGroupSpecs"] = groups
    assert "at most 7 groups" in faults(bad)[0]
    assert any("shared cluster" in fault for fault in faults(queued(), is_shared=True))


def test_a_shared_cluster_takes_no_sidecar_and_no_retries() -> None:
    found = faults(changed(("spec.submissionMode", "SidecarMode"), ("spec.backoffLimit", 1)), is_shared=True)
    assert [fault.partition(":")[0] for fault in found] == ["spec.submissionMode", "spec.backoffLimit"]
    made = Template(GOOD, "t", "ours").fill(JobRequest("a-job", ("true",), "/"))["spec"]
    assert made["clusterSelector"] == {"ray.io/cluster": "ours"}
    assert not {"rayClusterSpec", "suspend", "shutdownAfterJobFinishes"} & set(made)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "is no YAML"),
        ("", "holds 0 objects"),
        ("a: 1\n---\nb: 2", "holds 2 objects"),
        ("[]", "must be a RayJob"),
    ],
)
def test_a_file_that_is_no_template_is_refused_by_name(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "rayjob.yaml"
    path.write_text(text)
    with pytest.raises(JobError, match=said) as caught:
        Template.read(path)
    assert str(path) in str(caught.value)
    with pytest.raises(JobError, match="--kube-template"):
        Template.read(tmp_path / "absent.yaml")


def test_a_job_is_filled_in_and_the_rest_is_the_operators() -> None:
    request = JobRequest(
        "a-job", ("python", "-c", "print('$HOME `x`')"), "/data", 3, {"A": "plain", "B": "$x", "C": None},
        cpu=0.5, restarts=2, pip=("attrs>=1",), metadata={"tuneyard_sweep": "a-job"},
    )  # fmt: skip
    made = Template(GOOD, "t").fill(request)
    assert made["metadata"]["name"] == "a-job"
    assert made["metadata"]["labels"]["tuneyard.dev/attempt"] == "3"
    assert made["spec"]["rayClusterSpec"] == GOOD["spec"]["rayClusterSpec"]
    assert made["spec"]["entrypointNumCpus"] == 0.5
    assert not set("$`'\"\\(){}|&;<>*?~# \n") & set(made["spec"]["entrypoint"].replace(" ", ""))
    runtime = yaml.safe_load(made["spec"]["runtimeEnvYAML"])
    assert runtime["pip"] == ["attrs>=1"]
    assert runtime["env_vars"]["A"] == "plain"
    assert runtime["env_vars"]["FROM_TEMPLATE"] == "yes"
    assert runtime["env_vars"]["RAY_JOB_STOP_SIGNAL"] == "SIGINT"
    assert "B" not in runtime["env_vars"]
    assert Template(GOOD, "t").fill(request) == made


def test_deadlines_are_always_set() -> None:
    bare = changed(("spec.preRunningDeadlineSeconds", None))
    made = Template(bare, "t").fill(JobRequest("a-job", ("true",), "/"))["spec"]
    assert made["preRunningDeadlineSeconds"] > 0
    assert made["submitterConfig"]["backoffLimit"] >= 0
    assert "submitterConfig" not in Template(changed(("spec.submissionMode", "HTTPMode")), "t").fill(
        JobRequest("a-job", ("true",), "/")
    )["spec"]  # fmt: skip


def test_capacity_is_what_the_groups_may_grow_to() -> None:
    gpu = changed((f"{WORKERS}.maxReplicas", 3), (f"{WORKERS}.numOfHosts", 2), (f"{HEAD}.rayStartParams.num-cpus", "1"))
    limits = gpu["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]["spec"]["containers"][0]["resources"][
        "limits"
    ]
    limits["nvidia.com/gpu"] = 4
    gpu["metadata"]["annotations"] = {"tuneyard.dev/clusters": "2"}
    assert Template(GOOD, "t").capacity() == Capacity(2.0, 0.0, 1, (Node(2.0, 0.0, 4.0 * 2**30),))
    found = Template(gpu, "t").capacity()
    assert (found.cpus, found.gpus, found.nodes, len(found.of_nodes)) == (26.0, 48.0, 14, 14)


@pytest.mark.parametrize(("text", "number"), [("500m", 0.5), (2, 2.0), ("8Gi", 8 * 2**30), ("1.5", 1.5), ("1e3", 1e3)])
def test_quantities(text: object, number: float) -> None:
    assert quantity(text) == number


@pytest.mark.parametrize("text", ["many", "5 GB", "3Xi"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(JobError, match="no quantity"):
        quantity(text)


@pytest.mark.parametrize(
    ("name", "holds"), [("a", True), ("a-1", True), ("1a", False), ("a-", False), ("a" * 48, False)]
)
def test_names(name: str, *, holds: bool) -> None:
    assert is_name(name) is holds


@needs_crds
def test_what_is_filled_in_keeps_kuberays_schema() -> None:
    for template in (Template(GOOD, "t"), Template(queued(), "t"), Template(GOOD, "t", "ours")):
        made = template.fill(JobRequest("a-job", ("true",), "/", cpu=1.0, gpu=1.0, pip=("attrs",)))
        assert schemas()["rayjobs"].check(made) == ([], [])
    assert Schema({"properties": {"spec": {"type": "object", "properties": {}}}}).check({"spec": {"a": 1}})[0] == [
        "spec.a"
    ]
