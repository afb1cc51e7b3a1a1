"""Every overlay and component of k8s/ renders, is valid to the letter, and asks for no more than it needs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests import pod_security, ray_rules
from tests.kube.schemas import needs_crds
from tests.manifests import (
    COMPONENTS,
    K8S,
    OVERLAYS,
    TEMPLATES,
    Document,
    Pod,
    cluster_of,
    has_kubectl,
    in_namespace,
    named,
    overlay,
    plain_name,
    pods,
    ray_job,
    ray_pods,
    shared_cluster_with,
    template_with,
    with_components,
)
from tests.readme import ROOT

KUBERNETES = "1.37"
GOLDEN = ROOT / "tests" / "kube" / "golden" / "rbac.yaml"
REQUIRED = {  # of kinds whose schemas are nobody's here, from their projects' reference pages
    "ResourceFlavor": ("kueue.x-k8s.io/v1beta2", ()),
    "ClusterQueue": ("kueue.x-k8s.io/v1beta2", ("namespaceSelector", "resourceGroups")),
    "LocalQueue": ("kueue.x-k8s.io/v1beta2", ("clusterQueue",)),
    "ServiceMonitor": ("monitoring.coreos.com/v1", ("selector", "endpoints")),
    "PodMonitor": ("monitoring.coreos.com/v1", ("selector", "podMetricsEndpoints")),
    "PrometheusRule": ("monitoring.coreos.com/v1", ("groups",)),
}
pytestmark = pytest.mark.skipif(not has_kubectl(), reason="kubectl, which carries kustomize, is not here")

INSTALLATIONS = [*OVERLAYS, *(f"base+{name}" for name in COMPONENTS), "base+everything"]


def rendered(name: str) -> tuple[Document, ...]:
    kind, _, component = name.partition("+")
    if kind != "base":
        return overlay(name)
    return with_components(*(COMPONENTS if component == "everything" else [component]))


@pytest.fixture(params=INSTALLATIONS)
def documents(request: pytest.FixtureRequest) -> tuple[Document, ...]:
    """Everything that one installation applies."""
    return rendered(request.param)


def shared_cluster() -> Document:
    return dict(yaml.safe_load((K8S / "base" / "raycluster.yaml").read_text()))


def _ray_documents() -> Iterator[Any]:
    yield pytest.param(shared_cluster, id="shared cluster")
    yield pytest.param(
        lambda: shared_cluster_with("gcs-fault-tolerance")[-1], id="shared cluster that outlives its head"
    )
    for name in OVERLAYS:
        yield pytest.param(lambda name=name: ray_job(overlay(name)), id=name)
    for name in TEMPLATES:
        yield pytest.param(lambda name=name: template_with(name), id=f"template {name}")
    yield pytest.param(lambda: template_with(*TEMPLATES), id="all templates")


RAY_DOCUMENTS = list(_ray_documents())


def test_each_object_is_valid_to_the_letter(documents: tuple[Document, ...]) -> None:
    for document in documents:
        if document["kind"] in REQUIRED:
            version, fields = REQUIRED[document["kind"]]
            assert document["apiVersion"] == version
            assert set(fields) <= set(document.get("spec", {}))
        else:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)


@needs_crds
@pytest.mark.parametrize("made", RAY_DOCUMENTS)
def test_each_ray_object_is_valid_to_the_letter(made: Any) -> None:  # noqa: ANN401  # a function of no arguments
    document = made()
    found = ray_rules.validator(document["kind"]).iter_errors(document)
    assert [f"{error.json_path}: {error.message}" for error in found] == []


@pytest.mark.parametrize("made", RAY_DOCUMENTS)
def test_the_operator_stalls_on_no_ray_object(made: Any) -> None:  # noqa: ANN401  # a function of no arguments
    assert ray_rules.complaints(made()) == []


@needs_crds
def test_a_wrong_field_and_a_wrong_word_are_found() -> None:
    job = ray_job(overlay("try"))
    job["spec"]["rayClusterSpec"]["headGroupSpec"]["num-cpus"] = "0"
    assert "num-cpus" in next(iter(ray_rules.validator("RayJob").iter_errors(job))).message
    job["spec"].update(submissionMode="K8SJobMode", preRunningDeadlineSeconds=None)
    job["metadata"]["name"] = "9-" + "x" * 50
    assert len(ray_rules.complaints(job)) == 3


def test_all_pods_keep_to_the_restricted_standard(documents: tuple[Document, ...]) -> None:
    namespace = named(documents, "Namespace", "tuneyard")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    found = {pod.owner: pod_security.violations(pod.spec) for pod in [*pods(documents), *ray_pods(shared_cluster())]}
    assert len(found) >= 6
    assert {owner: wrong for owner, wrong in found.items() if wrong} == {}


def test_the_standard_is_checked_rule_by_rule() -> None:
    secure: dict[str, Any] = {
        "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": True,
        "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    assert pod_security.violations({"containers": [{"name": "c", "securityContext": secure}]}) == []
    assert len(pod_security.violations({"containers": [{"name": "c"}]})) == 4
    faults: list[dict[str, Any]] = [
        {"privileged": True}, {"allowPrivilegeEscalation": None}, {"capabilities": {"drop": ["NET_RAW"]}},
        {"capabilities": {"drop": ["ALL"], "add": ["SYS_PTRACE"]}}, {"runAsUser": 0}, {"procMount": "Unmasked"},
        {"appArmorProfile": {"type": "Unconfined"}}, {"seLinuxOptions": {"type": "spc_t"}},
    ]  # fmt: skip
    for fault in faults:
        assert (
            len(pod_security.violations({"containers": [{"name": "c", "securityContext": {**secure, **fault}}]})) == 1
        )
    container = {"name": "c", "securityContext": secure}
    for pod in ({"hostNetwork": True}, {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]}):
        assert len(pod_security.violations({**pod, "containers": [container]})) == 1


def test_each_container_has_a_read_only_root_and_its_share(documents: tuple[Document, ...]) -> None:
    for pod in pods(documents):
        mounts = {volume["name"] for volume in pod.spec.get("volumes", [])}
        for container in pod.containers:
            place = f"{pod.owner}, {container['name']}"
            assert container["securityContext"]["readOnlyRootFilesystem"] is True, place
            assert "/tmp" in {mount["mountPath"] for mount in container["volumeMounts"]}, place
            assert {mount["name"] for mount in container["volumeMounts"]} <= mounts, place
            assert {"cpu", "memory", "ephemeral-storage"} <= set(container["resources"]["requests"]), place
            assert {"memory", "ephemeral-storage"} <= set(container["resources"]["limits"]), place
        bounded = [volume for volume in pod.spec.get("volumes", []) if "emptyDir" in volume]
        assert all(volume["emptyDir"].get("sizeLimit") for volume in bounded), pod.owner


def test_only_the_service_and_the_autoscaler_may_ask_kubernetes_for_anything(documents: tuple[Document, ...]) -> None:
    for pod in pods(documents):
        is_service = pod.labels.get("app.kubernetes.io/component") == "service"
        assert pod.spec["automountServiceAccountToken"] is is_service, pod.owner
        assert pod.spec["enableServiceLinks"] is False, pod.owner
        tokens = {v["name"] for v in pod.spec.get("volumes", []) for s in v.get("projected", {}).get("sources", ())
                  if "serviceAccountToken" in s}  # fmt: skip
        holders = {c["name"] for c in pod.containers for m in c["volumeMounts"] if m["name"] in tokens}
        assert holders <= {"autoscaler"}, pod.owner


def test_the_rights_are_those_on_record() -> None:
    kinds = ("ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")
    for name in INSTALLATIONS:
        rights = [document for document in rendered(name) if document["kind"] in kinds]
        assert list(yaml.safe_load_all(GOLDEN.read_text())) == rights, f"{name}: look at {GOLDEN} and say why"
    [role] = [document for document in yaml.safe_load_all(GOLDEN.read_text()) if document["kind"] == "Role"]
    words = [word for rule in role["rules"] for values in rule.values() for word in values]
    assert not {"*", "secrets", "configmaps", "pods/exec", "escalate", "bind", "impersonate"} & set(words)


@pytest.mark.parametrize("name", OVERLAYS)
def test_in_another_namespace_the_service_keeps_its_rights(name: str) -> None:
    found = in_namespace("elsewhere", name)
    assert {document["metadata"].get("namespace", "elsewhere") for document in found} == {"elsewhere"}
    [binding] = [document for document in found if document["kind"] == "RoleBinding"]
    assert [subject["namespace"] for subject in binding["subjects"]] == ["elsewhere"]


def test_jobs_are_gone_before_the_next_version_changes_their_image(documents: tuple[Document, ...]) -> None:
    for job in (document for document in documents if document["kind"] == "Job"):
        assert job["spec"]["ttlSecondsAfterFinished"] <= 600


def test_no_secret_is_in_a_config_map_and_none_in_the_manifests(documents: tuple[Document, ...]) -> None:
    assert [document for document in documents if document["kind"] == "Secret"] == []
    for document in documents:
        if document["kind"] == "ConfigMap":
            for key, text in document.get("data", {}).items():
                lines = [line for line in [key, *text.splitlines()] if _may_be_secret(line)]
                assert lines == [], plain_name(document)
    for pod in pods(documents):
        literal = [e["name"] for c in pod.containers for e in c.get("env", []) if "value" in e]
        assert [name for name in literal if _may_be_secret(f"{name}=")] == []


def _may_be_secret(line: str) -> bool:
    name = line.partition("=")[0].upper()
    is_setting = "=" in line and any(word in name for word in ("PASSWORD", "TOKEN", "SECRET", "ACCESS_KEY"))
    return is_setting or ("://" in line and "@" in line.partition("://")[2] and "@DATABASE_URI@" not in line)


def test_what_people_wait_for_is_spread_and_probed(documents: tuple[Document, ...]) -> None:
    service = next(pod for pod in pods(documents) if pod.labels.get("app.kubernetes.io/component") == "service")
    assert {c["topologyKey"] for c in service.spec["topologySpreadConstraints"]} == {
        "topology.kubernetes.io/zone",
        "kubernetes.io/hostname",
    }
    budget = named(documents, "PodDisruptionBudget", "tuneyard")
    assert budget["spec"]["selector"]["matchLabels"].items() <= service.labels.items()
    for pod in pods(documents):
        if pod.owner.startswith(("Deployment", "StatefulSet")):
            for container in pod.containers:
                assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container), pod.owner


def test_templates_are_written_out(tmp_path: Path) -> None:
    shutil.copytree(K8S, tmp_path / "k8s")
    subprocess.run([tmp_path / "k8s" / "render-templates.sh"], check=True)
    for name in OVERLAYS:
        place = Path("k8s", "overlays", name, "rayjob.yaml")
        assert (tmp_path / place).read_text() == (ROOT / place).read_text(), "run k8s/render-templates.sh"


def test_the_shared_cluster_is_that_of_a_sweep() -> None:
    job = yaml.safe_load((K8S / "base" / "rayjob.yaml").read_text())["spec"]["rayClusterSpec"]
    assert shared_cluster()["spec"] == job
    assert job["authOptions"] == {"mode": "token", "secretName": "tuneyard"}


UNITS = {"": 1.0, "m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def amount(text: object) -> float:
    found = re.fullmatch(r"([0-9.]+)([a-zA-Z]*)", str(text))
    assert found, text
    return float(found[1]) * UNITS[found[2]]


def asked_for(pod: Pod, kind: str, name: str) -> float:
    return sum(amount(c["resources"].get(kind, {}).get(name, 0)) for c in pod.spec["containers"])


@pytest.mark.parametrize("name", OVERLAYS)
def test_the_quota_has_room_for_as_many_clusters_as_there_may_be(name: str) -> None:
    job = ray_job(overlay(name))
    clusters = int(job["metadata"]["annotations"]["tuneyard.dev/clusters"])
    most = {group["groupName"]: group["maxReplicas"] for group in cluster_of(job)["workerGroupSpecs"]}
    often = {f"RayJob {group}": clusters * count for group, count in most.items()}
    hard = named(overlay(name), "ResourceQuota", "tuneyard")["spec"]["hard"]
    replicas = {
        f"{d['kind']} {d['metadata']['name']}": d["spec"].get("replicas", 1) for d in overlay(name) if "spec" in d
    }
    everything = [
        (pod, often.get(pod.owner, clusters if "RayJob" in pod.owner else replicas[pod.owner]))
        for pod in pods(overlay(name))
    ]
    assert sum(count for _, count in everything) <= int(hard["pods"])
    for entry, limit in hard.items():
        kind, _, resource = entry.partition(".")
        if kind in ("requests", "limits"):
            total = sum(count * asked_for(pod, kind, resource) for pod, count in everything)
            assert total <= amount(limit), f"{entry}: {total:g} is asked for at most, {limit} is allowed"


@pytest.mark.parametrize("name", OVERLAYS)
def test_what_a_sweep_depends_on_is_not_moved_to_save_a_node(name: str) -> None:
    spec = ray_job(overlay(name))["spec"]
    for template in (spec["submitterPodTemplate"], spec["rayClusterSpec"]["headGroupSpec"]["template"]):
        assert template["metadata"]["annotations"] == {
            "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
            "karpenter.sh/do-not-disrupt": "true",
        }


def test_a_sweep_s_cluster_grows_from_nothing_and_ends() -> None:
    for name in OVERLAYS:
        cluster = ray_job(overlay(name))["spec"]["rayClusterSpec"]
        assert cluster["enableInTreeAutoscaling"] is True
        assert cluster["autoscalerOptions"]["version"] == "v2"
        assert cluster["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
        groups = {group["groupName"]: group for group in cluster["workerGroupSpecs"]}
        assert [group["minReplicas"] for group in groups.values()] == [0, 0]
        assert (groups["gpu"]["maxReplicas"] > 0) is (name == "gpu")
        assert groups["gpu"]["template"]["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1
        for group in groups.values():
            pod = group["template"]["spec"]
            hook = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
            assert hook[:4] == ["python", "-P", "-m", "service.tuning.leaving"]
            assert pod["terminationGracePeriodSeconds"] >= int(hook[-1]) + 20
            assert pod["tolerations"]


def test_kueue_can_admit_a_sweep_s_cluster() -> None:
    queues = with_components("kueue")
    local, cluster = named(queues, "LocalQueue", "tuneyard"), named(queues, "ClusterQueue", "tuneyard")
    assert local["spec"]["clusterQueue"] == cluster["metadata"]["name"]
    assert cluster["spec"]["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "tuneyard"}
    [group] = cluster["spec"]["resourceGroups"]
    flavors = {document["metadata"]["name"] for document in queues if document["kind"] == "ResourceFlavor"}
    for flavor in group["flavors"]:
        assert flavor["name"] in flavors
        assert [resource["name"] for resource in flavor["resources"]] == group["coveredResources"]
    job = template_with("kueue")
    assert job["metadata"]["labels"]["kueue.x-k8s.io/queue-name"] == local["metadata"]["name"]
    assert job["spec"]["suspend"] is job["spec"]["shutdownAfterJobFinishes"] is True
    made = cluster_of(job)
    assert made["enableInTreeAutoscaling"] is False
    assert len(made["workerGroupSpecs"]) <= 7
    asked = {name for pod in ray_pods(job) for c in pod.containers for name in c["resources"]["requests"]}
    assert asked <= set(group["coveredResources"])


def test_the_dashboard_is_one(documents: tuple[Document, ...]) -> None:
    for document in documents:
        if "grafana_dashboard" in document["metadata"].get("labels", {}):
            [text] = document["data"].values()
            panels = json.loads(text)["panels"]
            assert len({panel["id"] for panel in panels}) == len(panels) == 8


def images(found: list[Pod]) -> set[str]:
    return {container["image"] for pod in found for container in pod.containers}


def test_no_image_is_without_a_pinned_tag(documents: tuple[Document, ...]) -> None:
    for image in images([*pods(documents), *ray_pods(shared_cluster())]):
        _, colon, tag = image.rpartition("/")[2].partition(":")
        assert colon, image
        assert any(character.isdigit() for character in tag), image
        assert tag not in ("latest", "main", "nightly"), image
