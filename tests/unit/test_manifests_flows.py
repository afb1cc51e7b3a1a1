"""What talks to what under k8s/: references resolve, ports exist, and networks allow the flows that are needed only."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import product
from typing import Any

import pytest
import yaml

from tests.manifests import (
    K8S,
    OTHERS_SECRETS,
    Document,
    Pod,
    has_kubectl,
    overlay,
    pods,
    with_components,
)
from tests.unit.test_manifests import INSTALLATIONS, rendered

pytestmark = pytest.mark.skipif(not has_kubectl(), reason="kubectl, which carries kustomize, is not here")

PRODUCTION = {
    "TUNEYARD_DATABASE_URL": "postgresql://tuneyard:s3cret@db.internal:5432/tuneyard",
    "MLFLOW_DATABASE_URL": "postgresql://mlflow:s3cret@db.internal:5432/mlflow",
}
SERVICE = {"app.kubernetes.io/name": "tuneyard", "app.kubernetes.io/component": "service"}
MLFLOW = {"app.kubernetes.io/name": "mlflow", "app.kubernetes.io/component": "tracking"}
POSTGRES = {"app.kubernetes.io/name": "postgres", "app.kubernetes.io/component": "database"}
STORE = {"app.kubernetes.io/name": "object-store", "app.kubernetes.io/component": "storage"}
BUCKET = {"app.kubernetes.io/name": "object-store-bucket", "app.kubernetes.io/component": "storage-setup"}
HEAD = {"tuneyard.dev/part": "ray", "tuneyard.dev/node": "head"}
WORKER = {"tuneyard.dev/part": "ray", "tuneyard.dev/node": "worker"}
SUBMITTER = {"tuneyard.dev/part": "ray-submitter"}
PARTS = {
    "service": SERVICE, "mlflow": MLFLOW, "postgres": POSTGRES, "store": STORE, "bucket": BUCKET, "head": HEAD,
    "worker": WORKER, "submitter": SUBMITTER,
}  # fmt: skip
FLOWS = {  # of the overlay `try`, all of them: (from, to, port)
    ("service", "mlflow", 5000), ("service", "postgres", 5432), ("service", "store", 9000), ("service", "head", 8265),
    ("mlflow", "postgres", 5432), ("mlflow", "store", 9000), ("bucket", "store", 9000),
    ("submitter", "head", 8265), ("head", "mlflow", 5000), ("worker", "mlflow", 5000),
    ("head", "store", 9000), ("worker", "store", 9000),
}  # fmt: skip
RAY_S_OWN = (6379, 8080, 10001, 23456)  # and any other: workers choose theirs
OUTSIDE = {  # to anywhere: (from, port)
    ("service", 443), ("service", 6443), ("mlflow", 443), ("head", 443), ("head", 6443), ("worker", 443),
}  # fmt: skip


@pytest.fixture(params=INSTALLATIONS)
def documents(request: pytest.FixtureRequest) -> tuple[Document, ...]:
    """Everything that one installation applies."""
    return rendered(request.param)


def made_secrets(kind: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": os.environ["PATH"], **variables}
    return subprocess.run(
        [K8S / "make-secrets.sh", kind, "elsewhere"], env=environment, capture_output=True, text=True, check=False
    )


@cache
def secrets(kind: str) -> dict[str, dict[str, str]]:
    """What the script makes: the values by Secret and key."""
    done = made_secrets(kind, **(PRODUCTION if kind == "production" else {}))
    assert done.returncode == 0, done.stderr
    found = [document for document in yaml.safe_load_all(done.stdout) if document]
    assert {document["metadata"]["namespace"] for document in found} == {"elsewhere"}
    return {
        d["metadata"]["name"]: {key: base64.b64decode(value).decode() for key, value in d["data"].items()}
        for d in found
    }


def matches(selector: Mapping[str, Any] | None, labels: Mapping[str, str]) -> bool:
    if selector is None:
        return False
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    wanted = selector.get("matchExpressions", [])
    assert all(expression["operator"] == "In" for expression in wanted)
    return all(labels.get(expression["key"]) in expression["values"] for expression in wanted)


def policies(found: tuple[Document, ...], kind: str, labels: Mapping[str, str]) -> Iterator[Document]:
    for document in found:
        is_of_kind = document["kind"] == "NetworkPolicy" and kind in document["spec"]["policyTypes"]
        if is_of_kind and matches(document["spec"]["podSelector"], labels):
            yield document["spec"]


def allows(rules: list[Document], side: str, other: Mapping[str, str] | None, port: int) -> bool:
    """Whether a rule lets `port` through, to or from a pod with the labels `other`; None stands for the outside."""
    for rule in rules:
        peers, ports = rule.get(side), [entry["port"] for entry in rule.get("ports", []) if entry["protocol"] == "TCP"]
        if "ports" in rule and port not in ports:
            continue
        if peers is None:
            return True
        if other is None and any("ipBlock" in peer for peer in peers):
            return True
        own = [peer["podSelector"] for peer in peers if "podSelector" in peer and "namespaceSelector" not in peer]
        if other is not None and any(matches(selector, other) for selector in own):
            return True
    return False


def goes_out(
    found: tuple[Document, ...], labels: Mapping[str, str], other: Mapping[str, str] | None, port: int
) -> bool:
    return any(allows(spec.get("egress", []), "to", other, port) for spec in policies(found, "Egress", labels))


def comes_in(found: tuple[Document, ...], labels: Mapping[str, str], other: Mapping[str, str], port: int) -> bool:
    return any(allows(spec.get("ingress", []), "from", other, port) for spec in policies(found, "Ingress", labels))


def test_everything_is_denied_but_what_is_needed() -> None:
    found = overlay("try")
    assert all(list(policies(found, kind, {"any": "pod"})) for kind in ("Egress", "Ingress"))
    ports = {*RAY_S_OWN, *(port for _, _, port in FLOWS)}
    within_ray = {(*pair, port) for pair in product(("head", "worker"), repeat=2) for port in ports}
    allowed = {
        (source, target, port)
        for (source, here), (target, there), port in product(PARTS.items(), PARTS.items(), ports)
        if goes_out(found, here, there, port) and comes_in(found, there, here, port)
    }
    assert allowed == FLOWS | within_ray
    outside = {(n, p) for n, labels in PARTS.items() for p in (80, 443, 6443, 8700) if goes_out(found, labels, None, p)}
    assert outside == OUTSIDE


def test_what_brings_mlflow_s_tables_up_to_date_reaches_the_database() -> None:
    job = yaml.safe_load((K8S / "mlflow-upgrade.yaml").read_text())
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert goes_out(overlay("try"), labels, POSTGRES, 5432)
    assert comes_in(overlay("try"), POSTGRES, labels, 5432)
    assert goes_out(overlay("production"), labels, None, 5432)


def test_the_operator_of_kuberay_reaches_heads_from_its_own_namespace() -> None:
    [rule] = [
        rule
        for spec in policies(overlay("try"), "Ingress", HEAD)
        for rule in spec.get("ingress", ())
        if "ports" in rule
    ]
    [peer] = [peer for peer in rule["from"] if "namespaceSelector" in peer]
    assert peer["namespaceSelector"] == {}
    by_helm = {"app.kubernetes.io/name": "kuberay-operator", "app.kubernetes.io/component": "kuberay-operator"}
    by_kustomize = {"app.kubernetes.io/name": "kuberay", "app.kubernetes.io/component": "kuberay-operator"}
    assert all(matches(peer["podSelector"], labels) for labels in (by_helm, by_kustomize))


def test_each_port_of_a_policy_is_one_of_a_container(documents: tuple[Document, ...]) -> None:
    everything = pods(documents)
    for document in documents:
        if document["kind"] != "NetworkPolicy" or document["metadata"]["name"] in ("dns", "default-deny"):
            continue
        spec = document["spec"]
        mine = [pod for pod in everything if matches(spec["podSelector"], pod.labels)]
        assert mine, document["metadata"]["name"]
        for rule in spec.get("ingress", []):
            for port in rule.get("ports", []):
                assert port["port"] in {p for pod in mine for p in pod.ports.values()}, document["metadata"]["name"]
        for rule in spec.get("egress", []):
            for peer, port in product(rule.get("to", []), rule.get("ports", [])):
                if "podSelector" in peer:
                    theirs = [pod for pod in everything if matches(peer["podSelector"], pod.labels)]
                    assert port["port"] in {p for pod in theirs for p in pod.ports.values()}, document["metadata"][
                        "name"
                    ]


def test_each_service_finds_its_pods(documents: tuple[Document, ...]) -> None:
    everything = pods(documents)
    ports = {}
    for document in (d for d in documents if d["kind"] == "Service"):
        chosen = [pod for pod in everything if matches({"matchLabels": document["spec"]["selector"]}, pod.labels)]
        assert len(chosen) == 1, document["metadata"]["name"]
        for port in document["spec"]["ports"]:
            assert port["targetPort"] in chosen[0].ports
            ports[document["metadata"]["name"], port["name"]] = port["port"]
    for document in (d for d in documents if d["kind"] == "Ingress"):
        for rule, path in ((r, p) for r in document["spec"]["rules"] for p in r["http"]["paths"]):
            backend = path["backend"]["service"]
            assert (backend["name"], backend["port"]["name"]) in ports, rule["host"]
    assert (ports["tuneyard", "http"], ports["mlflow", "http"]) == (8700, 5000)


def test_probes_and_monitors_ask_ports_that_are_there(documents: tuple[Document, ...]) -> None:
    everything = pods(documents)
    for pod in everything:
        for container in pod.containers:
            for probe in (container.get(f"{kind}Probe", {}) for kind in ("startup", "readiness", "liveness")):
                for action in (probe.get("httpGet"), probe.get("tcpSocket")):
                    assert action is None or action["port"] in pod.ports, pod.owner
    for document in documents:
        if document["kind"] == "PodMonitor":
            chosen = [pod for pod in everything if matches(document["spec"]["selector"], pod.labels)]
            assert {pod.owner for pod in chosen} == {"RayJob head", "RayJob cpu", "RayJob gpu"}
            for endpoint in document["spec"]["podMetricsEndpoints"]:
                assert all(pod.ports[endpoint["port"]] == 8080 for pod in chosen)
        if document["kind"] == "ServiceMonitor":
            chosen_services = [
                d for d in documents
                if d["kind"] == "Service" and matches(document["spec"]["selector"], d["metadata"].get("labels", {}))
            ]  # fmt: skip
            [service] = chosen_services
            assert [e["port"] for e in document["spec"]["endpoints"]] == [p["name"] for p in service["spec"]["ports"]]


def references(pod: Pod) -> Iterator[tuple[str, str, str | None, bool]]:
    """(kind, name, key, whether it may be missing) of all that a pod refers to."""
    if "serviceAccountName" in pod.spec:
        yield "ServiceAccount", pod.spec["serviceAccountName"], None, False
    for container in pod.containers:
        for source in container.get("envFrom", []):
            yield "ConfigMap", source["configMapRef"]["name"], None, False
        for entry in container.get("env", []):
            for kind, ref in entry.get("valueFrom", {}).items():
                if kind.endswith("KeyRef"):
                    name = "Secret" if kind == "secretKeyRef" else "ConfigMap"
                    yield name, ref["name"], ref["key"], ref.get("optional", False)
    for volume in pod.spec.get("volumes", []):
        sources = [volume, *volume.get("projected", {}).get("sources", [])]
        for config in (source["configMap"] for source in sources if "configMap" in source):
            for key in [item["key"] for item in config.get("items", [])] or [None]:
                yield "ConfigMap", config["name"], key, False


@pytest.mark.parametrize("name", INSTALLATIONS)
def test_each_reference_leads_somewhere(name: str) -> None:
    documents = rendered(name)
    own = {(d["kind"], d["metadata"]["name"]): set(d.get("data", {})) for d in documents}
    own["ConfigMap", "kube-root-ca.crt"] = {"ca.crt"}  # Kubernetes' own, in each namespace
    has_store = any(document["metadata"]["name"] == "postgres" for document in documents)
    made = {**{n: set(keys) for n, keys in secrets("try" if has_store else "production").items()}, **OTHERS_SECRETS}
    for pod in pods(documents):
        for kind, target, key, is_optional in references(pod):
            place = f"{pod.owner}: {kind} {target}, {key}"
            if kind == "Secret":
                is_store_s = target == "tuneyard" and str(key).startswith("aws-") and "base+" in name
                assert key in made[target] or is_optional or is_store_s, place
            else:
                assert (kind, target) in own, place
                assert key is None or key in own[kind, target], place


def test_each_config_map_and_service_account_is_used() -> None:
    documents = with_components("postgres", "s3")
    used = {(kind, name) for pod in pods(documents) for kind, name, _, _ in references(pod)}
    made = {(d["kind"], d["metadata"]["name"]) for d in documents if d["kind"] in ("ConfigMap", "ServiceAccount")}
    assert made <= used


def test_the_template_of_the_secrets_has_the_keys_that_are_made() -> None:
    template = {
        d["metadata"]["name"]: set(d["stringData"])
        for d in yaml.safe_load_all((K8S / "base" / "secret.template.yaml").read_text())
    }
    assert template == {name: set(keys) for name, keys in secrets("try").items()}
    values = [
        v
        for d in yaml.safe_load_all((K8S / "base" / "secret.template.yaml").read_text())
        for v in d["stringData"].values()
    ]
    assert set(values) == {""}


def test_secrets_are_random_and_fit_together() -> None:
    first, second = secrets("try"), yaml.safe_load_all(made_secrets("try").stdout)
    again = {d["metadata"]["name"]: d["data"] for d in second if d}
    assert base64.b64decode(again["tuneyard"]["mlflow-password"]).decode() != first["tuneyard"]["mlflow-password"]
    password = first["postgres"]["password"]
    assert len(password) == 32
    assert first["tuneyard"]["database-url"] == f"postgresql://tuneyard:{password}@postgres:5432/tuneyard"
    assert first["mlflow"]["database-url"] == f"postgresql+psycopg://tuneyard:{password}@postgres:5432/mlflow"
    production = secrets("production")
    assert production["tuneyard"]["database-url"] == PRODUCTION["TUNEYARD_DATABASE_URL"]
    assert "aws-access-key-id" not in production["tuneyard"]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"TUNEYARD_DATABASE_URL": ""}, "TUNEYARD_DATABASE_URL is empty"),
        ({"TUNEYARD_DATABASE_URL": "postgresql://USER:PASSWORD@HOST/NAME"}, "still holds a placeholder"),
        ({"TUNEYARD_DATABASE_URL": "postgresql://a:changeme@db/x"}, "still holds a placeholder"),
        ({"TUNEYARD_DATABASE_URL": "sqlite:////data/x.db"}, "must be postgresql://"),
        ({"MLFLOW_DATABASE_URL": PRODUCTION["TUNEYARD_DATABASE_URL"]}, "must be another database"),
        ({"AWS_ACCESS_KEY_ID": "AKIA1"}, "AWS_SECRET_ACCESS_KEY is empty"),
        ({"AWS_ACCESS_KEY_ID": "<key>", "AWS_SECRET_ACCESS_KEY": "x"}, "still holds a placeholder"),
    ],
)
def test_what_was_not_filled_in_is_refused(changes: dict[str, str], complaint: str) -> None:
    done = made_secrets("production", **{**PRODUCTION, **changes})
    assert done.returncode == 2
    assert complaint in done.stderr
    assert done.stdout == ""
    assert made_secrets("staging").returncode == 2
