"""What k8s/ says of the code is so: variables, metrics, paths, versions, images, and the commands of its README."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from service.api.auth_oidc import OidcSettings
from service.api.metrics import Metrics
from service.api.rules import RULES
from service.records import State
from service.server import settings
from service.server.auth_settings import auth_settings
from service.server.settings import settings_of
from tests.manifests import (
    COMPONENTS,
    K8S,
    OVERLAYS,
    Document,
    Pod,
    has_kubectl,
    named,
    overlay,
    pods,
    with_components,
)
from tests.readme import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONSTRAINTS = dict(
    line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
)
DOCKERFILE = (K8S / "Dockerfile").read_text()
NOT_IN_SERVICE = {"torch", "ray", "pytorch-lightning", "jsonargparse", "scikit-learn", "pillow", "pyarrow"}
needs_kubectl = pytest.mark.skipif(not has_kubectl(), reason="kubectl, which carries kustomize, is not here")


def everything() -> tuple[Document, ...]:
    return with_components(*COMPONENTS)


def literals(documents: tuple[Document, ...]) -> dict[str, str]:
    """What the service is told: its ConfigMap, and variables of its container with a value."""
    found = dict(named(documents, "ConfigMap", "tuneyard")["data"])
    [pod] = [pod for pod in pods(documents) if pod.labels.get("app.kubernetes.io/component") == "service"]
    for entry in pod.spec["containers"][0]["env"]:
        found.setdefault(entry["name"], entry.get("value", ""))
    return {name.removeprefix("TUNEYARD_").lower(): v for name, v in found.items() if name.startswith("TUNEYARD_")}


@needs_kubectl
@pytest.mark.parametrize("name", [*OVERLAYS, "everything"])
def test_each_setting_is_one_of_the_service_and_is_read(name: str) -> None:
    given = literals(everything() if name == "everything" else overlay(name))
    of_auth = {f"oidc_{f}" for f in OidcSettings.__dataclass_fields__} | {"role_map", "default_roles"}
    assert set(given) <= set(settings._READERS) | of_auth | {"home"}
    given["database"] = "postgresql://tuneyard:secret@postgres:5432/tuneyard"  # the Secret's
    given["kube_namespace"] = "tuneyard"  # the pod's own
    found = settings_of(ROOT, {}, given)
    assert (found.host, found.port, found.mlflow) == ("0.0.0.0", 8700, "http://mlflow:5000")  # noqa: S104  # as it stands there
    auth = auth_settings(found.auth_kind, given)
    assert auth.mode == ("oidc" if name == "everything" else "token")


@needs_kubectl
def test_the_rayjob_is_mounted_where_the_service_looks_for_it() -> None:
    documents = overlay("production")
    [pod] = [pod for pod in pods(documents) if pod.labels.get("app.kubernetes.io/component") == "service"]
    [mount] = [m for m in pod.spec["containers"][0]["volumeMounts"] if m["name"] == "template"]
    [(key, _)] = named(documents, "ConfigMap", "tuneyard-rayjob")["data"].items()
    assert literals(documents)["kube_template"] == f"{mount['mountPath']}/{key}" == "/etc/tuneyard/rayjob.yaml"
    [home] = [m for m in pod.spec["containers"][0]["volumeMounts"] if m["name"] == "home"]
    assert literals(documents)["home"] == home["mountPath"]


@needs_kubectl
def test_probes_and_monitors_ask_for_paths_that_are_there() -> None:
    documents = everything()
    [pod] = [pod for pod in pods(documents) if pod.labels.get("app.kubernetes.io/component") == "service"]
    container = pod.spec["containers"][0]
    paths = {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "readiness", "liveness")}
    paths |= {e["path"] for d in documents if d["kind"] == "ServiceMonitor" for e in d["spec"]["endpoints"]}
    assert paths == {"/healthz", "/readyz", "/metrics"}
    assert {f"GET {path}" for path in paths} <= set(RULES)
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"


def metric_names() -> set[str]:
    figures = {"controller_leads": 1.0, "controller_pass_age_seconds": 1.0, "cluster_reachable": 1.0}
    metrics = Metrics(lambda: dict.fromkeys(map(str, State), 0), lambda: figures)
    metrics.answered("GET", "/healthz", 200, 0.1)
    text = metrics.text().decode()
    return {re.split(r"[{ ]", line)[0] for line in text.splitlines() if not line.startswith("#")}


def expressions(documents: tuple[Document, ...]) -> Iterator[str]:
    for document in documents:
        if document["kind"] == "PrometheusRule":
            for group in document["spec"]["groups"]:
                yield from (rule["expr"] for rule in group["rules"])
                assert all({"summary"} <= set(rule["annotations"]) for rule in group["rules"])
        if "grafana_dashboard" in document["metadata"].get("labels", {}):
            [text] = document["data"].values()
            yield from (target["expr"] for panel in json.loads(text)["panels"] for target in panel["targets"])


@needs_kubectl
def test_each_metric_and_label_of_the_alerts_and_the_dashboard_is_one_of_the_service() -> None:
    found = list(expressions(everything()))
    assert len(found) >= 16
    names = {name for text in found for name in re.findall(r"\b(?:tuneyard|process)_[a-z_]+\b", text)}
    assert names <= metric_names()
    assert {"tuneyard_sweeps", "tuneyard_controller_leads", "tuneyard_cluster_reachable"} <= names
    states = {state for text in found for state in re.findall(r'state="(\w+)"', text)}
    assert states <= set(map(str, State))
    assert {label for text in found for label in re.findall(r"by \(([a-z, ]+)\)", text)} <= {
        "state", "le", "status", "le, route",
    }  # fmt: skip


def first_stage(target: str) -> str:
    """The lines of one stage of the Dockerfile."""
    found = re.search(rf"^FROM \S+ AS {target}\n(.*?)(?=^FROM|\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL)
    assert found, target
    return found[1]


def test_versions_agree() -> None:
    ray = CONSTRAINTS["ray"]
    [python, *_] = re.findall(r"python:(\d+\.\d+)\.\d+-slim", DOCKERFILE)
    assert PROJECT["requires-python"] == f">={python}"
    bases = re.findall(r"rayproject/ray:([\d.]+)-py(\d+)-(cpu|gpu)", DOCKERFILE)
    assert bases == [(ray, python.replace(".", ""), "gpu"), (ray, python.replace(".", ""), "cpu")]
    documents = [yaml.safe_load((K8S / "base" / f"{name}.yaml").read_text()) for name in ("rayjob", "raycluster")]
    documents += [yaml.safe_load((K8S / "overlays" / name / "rayjob.yaml").read_text()) for name in OVERLAYS]
    for document in documents:
        spec = document["spec"]
        assert spec.get("rayClusterSpec", spec)["rayVersion"] == ray
    tags = {
        m
        for path in K8S.rglob("*")
        if path.is_file()
        for m in re.findall(r"\btuneyard(?:-ray(?:-gpu)?)?:(\d[\w.]+)", path.read_text())
    }
    tags |= {m for path in K8S.rglob("kustomization.yaml") for m in re.findall(r"newTag: ([\w.]+)", path.read_text())}
    assert tags == {PROJECT["version"]}


@needs_kubectl
def test_an_installation_takes_its_images_from_one_place() -> None:
    for name in OVERLAYS:
        folder = K8S / "overlays" / name
        owns = [
            yaml.safe_load((place / "kustomization.yaml").read_text()).get("images", [])
            for place in (folder, folder / "template")
        ]
        found = {c["image"].rpartition(":")[0] for pod in pods(overlay(name)) for c in pod.containers}
        mine = {image["newName"] for image in [*owns[0], *owns[1]]}
        assert mine <= found


def test_the_dockerfile_copies_what_is_there_and_drops_root() -> None:
    ignored = [line for line in (K8S / "Dockerfile.dockerignore").read_text().splitlines() if line.startswith("!")]
    for line in re.findall(r"^COPY (.*)$", DOCKERFILE, re.MULTILINE):
        words = [word for word in line.split() if not word.startswith("--")]
        if "--from=build" not in line:
            for source in words[:-1]:
                assert (ROOT / source).exists(), source
                assert f"!{source}" in ignored, source
    for target in ("service", "ray"):
        users = re.findall(r"^USER (\d+):", first_stage(target), re.MULTILINE)
        assert users, target
        assert users[-1] == "1000", target
    assert not re.search(r"ADD |curl |wget |:latest|sudo", DOCKERFILE)
    assert set(re.findall(r"^EXPOSE (.*)$", DOCKERFILE, re.MULTILINE)) == {"8700 5000"}
    ports = {port for pod in service_pods() for port in pod.ports.values()}
    assert ports == {8700, 5000}


def service_pods() -> list[Pod]:
    [deployment, *_] = yaml.safe_load_all((K8S / "base" / "service.yaml").read_text())
    [mlflow, *_] = yaml.safe_load_all((K8S / "base" / "mlflow.yaml").read_text())
    return [Pod(d["metadata"]["name"], {}, d["spec"]["template"]["spec"]) for d in (deployment, mlflow)]


def test_pods_run_as_the_users_of_their_images() -> None:
    for pod in service_pods():
        assert pod.spec["securityContext"]["runAsUser"] == 1000
        assert pod.spec["securityContext"]["runAsGroup"] == 1000
    job = yaml.safe_load((K8S / "base" / "rayjob.yaml").read_text())["spec"]
    head = job["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["securityContext"]
    assert (head["runAsUser"], head["runAsGroup"]) == (1000, 100)


def requirements(lines: list[str]) -> dict[str, Requirement]:
    return {requirement.name: requirement for requirement in map(Requirement, lines)}


def test_the_service_s_image_has_what_the_project_needs_but_for_training() -> None:
    extras = PROJECT["optional-dependencies"]
    lines = (K8S / "requirements-service.txt").read_text().splitlines()
    listed = requirements([line for line in lines if not line.startswith("#")])
    wanted = requirements([*PROJECT["dependencies"], *extras["objects"], *extras["kubernetes"]])
    wanted.pop("tuneyard")
    assert set(listed) == set(wanted) - NOT_IN_SERVICE
    assert {name for name, r in wanted.items() if r.extras and name not in NOT_IN_SERVICE} == {
        name for name, r in listed.items() if r.extras
    }
    pinned = {name.lower().replace("_", "-") for name in CONSTRAINTS}
    assert {name.lower() for name in {*listed, *NOT_IN_SERVICE}} <= pinned
    for extra in re.findall(r"\.\[([\w,]+)\]", DOCKERFILE)[0].split(","):
        assert extra in extras


def test_what_serve_starts_by_itself_comes_with_a_plain_install() -> None:
    ray = requirements(PROJECT["dependencies"])["ray"]
    assert ray.extras == {"default", "tune"}  # without `default` a head has no Jobs API, and `ray start` refuses


ABSENT = sorted({*NOT_IN_SERVICE, "PIL", "sklearn", "lightning-utilities", "torchmetrics"})
WITHOUT = f"""
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0].replace("_", "-") in {ABSENT!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import service.control.make_folder, service.server.first_token, service.server.serve, service.views.reader
from service.cli.main import app
app(["serve", "--help"], standalone_mode=False)
"""


def test_the_service_starts_without_what_its_image_leaves_out() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--cluster" in done.stdout


def test_mlflow_is_told_what_it_knows() -> None:
    from mlflow import environment_variables

    [deployment, _] = yaml.safe_load_all((K8S / "base" / "mlflow.yaml").read_text())
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    names = {entry["name"] for entry in container["env"] if entry["name"].startswith("MLFLOW_")}
    known = {getattr(value, "name", None) for value in vars(environment_variables).values()}
    of_options = {"MLFLOW_BACKEND_STORE_URI", "MLFLOW_WORKERS", "MLFLOW_ARTIFACTS"}  # the last is the command's own
    assert names - of_options <= known | {"MLFLOW_DISABLE_TELEMETRY"}


def test_a_driver_ends_within_its_pod_s_time() -> None:
    from service.tuning.driver import TERM_GRACE_S

    job: dict[str, Any] = yaml.safe_load((K8S / "base" / "rayjob.yaml").read_text())["spec"]
    head = job["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    waits_s = int(head["containers"][0]["lifecycle"]["preStop"]["exec"]["command"][-1])
    assert waits_s > TERM_GRACE_S
    assert head["terminationGracePeriodSeconds"] >= waits_s + 20
