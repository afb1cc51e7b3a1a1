"""`make test-k8s`: Tuneyard on a real cluster, installed from k8s/overlays/try into a namespace of the test's own.

It wants TUNEYARD_TEST_KUBECONFIG, the file of somebody who may make namespaces there; TUNEYARD_TEST_IMAGE, an image
that the nodes have or can pull, with all of Tuneyard in it (the target `ray` of k8s/Dockerfile); and KubeRay's operator
in the cluster. k8s/README.md says how to come by all three. The namespace goes at the end, whatever happens.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from service.api.models import Sweep
from service.client import Client
from service.records import State
from tests.manifests import K8S, has_kubectl, kustomized
from tests.readme import ROOT

KUBECONFIG = os.environ.get("TUNEYARD_TEST_KUBECONFIG", "")
IMAGE = os.environ.get("TUNEYARD_TEST_IMAGE", "")
IMAGES = ("tuneyard", "tuneyard-ray", "tuneyard-ray-gpu")
INSTALL_S, SWEEP_S = 900, 1800
RECIPE = ROOT / "trainables" / "recipes" / "digits.yaml"
SLOW = (  # epochs that take some tenths of a second, so that something can come between
    "parameters.model.init_args.width=32",
    "parameters.model.init_args.depth=4",
    "parameters.model.init_args.kernel_size=3",
    "parameters.data.init_args.batch_size=32",
    "scheduler.max_epochs=27",
    "scheduler.grace_epochs=9",
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not KUBECONFIG, reason="TUNEYARD_TEST_KUBECONFIG names no cluster to install to"),
    pytest.mark.skipif(not IMAGE, reason="TUNEYARD_TEST_IMAGE names no image that the cluster's nodes have"),
    pytest.mark.skipif(not has_kubectl(), reason="kubectl is not here"),
]


@dataclass(frozen=True)
class Place:
    """A namespace of a cluster, reached with kubectl."""

    namespace: str

    def kubectl(self, *arguments: str, given: str | None = None, timeout_s: float = 120) -> str:
        """What kubectl prints; AssertionError with what it says where it fails."""
        command = ["kubectl", "--kubeconfig", KUBECONFIG, "--namespace", self.namespace, *arguments]
        done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=timeout_s, check=False)
        assert done.returncode == 0, f"kubectl {' '.join(arguments)}: {done.stderr}"
        return done.stdout

    def found(self, *arguments: str) -> list[dict[str, Any]]:
        """The objects that `kubectl get` finds."""
        items: list[dict[str, Any]] = json.loads(self.kubectl("get", *arguments, "--output=json"))["items"]
        return items

    @contextlib.contextmanager
    def forwarded(self, service: str, port: int) -> Iterator[str]:
        """The address on this machine of a Service's port, until its pod goes."""
        command = ["kubectl", "--kubeconfig", KUBECONFIG, "--namespace", self.namespace]
        command += ["port-forward", f"service/{service}", f":{port}"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            match = re.search(r"127\.0\.0\.1:(\d+)", line)
            assert match, line
            yield f"http://127.0.0.1:{match[1]}"
        finally:
            process.kill()
            process.communicate()

    def told(self) -> str:
        """How everything stands, for whoever reads a failure."""
        texts = []
        for arguments in (
            ("get", "pods,rayjobs,rayclusters,jobs", "--output=wide"),
            ("get", "events", "--sort-by=.lastTimestamp"),
            ("logs", "deployment/tuneyard", "--tail=50"),
        ):
            with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
                texts.append(self.kubectl(*arguments))
        return "\n\n".join(texts)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """An installation of the overlay `try`, gone after the tests."""
    found = Place(f"tuneyard-test-{secrets.token_hex(3)}")
    operators = found.found("pods", "--all-namespaces", "--selector=app.kubernetes.io/component=kuberay-operator")
    assert operators, "KubeRay's operator does not run in this cluster; k8s/README.md says how to install it"
    documents = installation(tmp_path_factory.mktemp("k8s"), found.namespace)
    try:
        install(found, documents)
        yield found
    finally:
        remove(found)


def installation(folder: Path, namespace: str) -> list[dict[str, Any]]:
    """The overlay `try`, in another namespace and with the image of the test."""
    copy = folder / "k8s"
    shutil.copytree(K8S, copy)
    name, tag = _image_parts(IMAGE)
    for overlay in (copy / "overlays" / "try", copy / "overlays" / "try" / "template"):
        content = yaml.safe_load((overlay / "kustomization.yaml").read_text())
        content["images"] = [{"name": own, "newName": name, **tag} for own in IMAGES]
        if overlay.name == "try":
            content["namespace"] = namespace
        (overlay / "kustomization.yaml").write_text(yaml.safe_dump(content))
    subprocess.run([copy / "render-templates.sh"], check=True)
    return kustomized(copy / "overlays" / "try")


def _image_parts(image: str) -> tuple[str, dict[str, str]]:
    """An image's name, and its tag or digest as kustomize wants it."""
    name, at, digest = image.partition("@")
    if at:
        return name, {"digest": digest}
    name, colon, tag = image.rpartition(":")
    assert colon and "/" not in tag, f"TUNEYARD_TEST_IMAGE={image} has no tag"  # noqa: PT018  # one thing to say
    return name, {"newTag": tag}


def install(place: Place, documents: list[dict[str, Any]]) -> None:
    """As k8s/README.md says: the namespace, its Secrets, everything else; then wait until all of it is there."""
    [namespace] = [document for document in documents if document["kind"] == "Namespace"]
    assert namespace["metadata"]["name"] == place.namespace
    place.kubectl("apply", "--filename=-", given=json.dumps(namespace))
    made = subprocess.run(
        [K8S / "make-secrets.sh", "try", place.namespace], capture_output=True, text=True, check=True
    ).stdout
    place.kubectl("create", "--filename=-", given=made)
    place.kubectl("apply", "--filename=-", given=yaml.safe_dump_all(documents))
    deadline = time.monotonic() + INSTALL_S
    try:
        for kind, name in (
            ("statefulset", "postgres"),
            ("statefulset", "object-store"),
            ("deployment", "mlflow"),
            ("deployment", "tuneyard"),
        ):
            left_s = max(1, int(deadline - time.monotonic()))
            place.kubectl("rollout", "status", f"{kind}/{name}", f"--timeout={left_s}s", timeout_s=left_s + 30)
        place.kubectl("wait", "job/object-store-bucket", "--for=condition=complete", "--timeout=120s", timeout_s=150)
    except AssertionError as error:
        pytest.fail(f"{error}\n{place.told()}")


def remove(place: Place) -> None:
    """The sweeps' jobs first, while somebody is there who ends them."""
    for arguments in (
        ("scale", "deployment/tuneyard", "--replicas=0"),
        ("delete", "rayjobs,rayclusters", "--all", "--timeout=120s"),
        ("delete", "namespace", place.namespace, "--timeout=180s"),
    ):
        with contextlib.suppress(AssertionError, subprocess.TimeoutExpired):
            place.kubectl(*arguments, timeout_s=240)


@pytest.fixture(scope="module")
def token(place: Place) -> str:
    """A token of an admin, made where the database is."""
    line = place.kubectl(
        "exec", "deployment/tuneyard", "--container=service", "--",
        "tuneyard", "token", "create", "first", "--admin", "--user", "root",
    )  # fmt: skip
    return line.strip()


def patiently(place: Place, token: str, ask: Callable[[Client], Sweep], until: Callable[[Sweep], bool]) -> Sweep:
    """Ask again and again until it is so; each time through a connection of its own, since pods may come and go."""
    deadline, last = time.monotonic() + SWEEP_S, ""
    while time.monotonic() < deadline:
        try:
            with place.forwarded("tuneyard", 8700) as url, Client(url, token) as client:
                while time.monotonic() < deadline:
                    sweep = ask(client)
                    last = f"{sweep.state}: {sweep.reason} {sweep.progress}"
                    if until(sweep):
                        return sweep
                    time.sleep(2)
        except Exception as error:  # noqa: BLE001  # whatever breaks on the way is tried again until the time is over
            last = f"{type(error).__name__}: {error}"
            time.sleep(2)
    pytest.fail(f"{last}\n{place.told()}")


def finished(place: Place, token: str, sweep_id: str) -> Sweep:
    ended = patiently(place, token, lambda client: client.sweep(sweep_id), lambda sweep: sweep.state.is_over)
    assert ended.state is State.COMPLETED, f"{ended.reason}\n{place.told()}"
    return ended


def submitted(place: Place, token: str, *overrides: str) -> str:
    few = ("budget.max_trials=6", "scheduler.max_epochs=9", *overrides)
    with place.forwarded("tuneyard", 8700) as url, Client(url, token) as client:
        return client.submit(RECIPE, overrides=few).id


def runs_of(place: Place, sweep_id: str) -> list[dict[str, str]]:
    """The tags of the sweep's runs in MLflow, with their `status`."""
    secret = json.loads(place.kubectl("get", "secret", "tuneyard", "--output=json"))["data"]
    login = tuple(_plain(secret[f"mlflow-{key}"]) for key in ("username", "password"))
    with place.forwarded("mlflow", 5000) as url, httpx2.Client(auth=(login[0], login[1]), timeout=30) as client:
        api = f"{url}/api/2.0/mlflow"
        assert httpx2.get(f"{api}/experiments/search?max_results=1").status_code == 401
        experiments = client.get(f"{api}/experiments/search?max_results=100").json()["experiments"]
        body = {
            "experiment_ids": [experiment["experiment_id"] for experiment in experiments],
            "filter": f"tags.`tuneyard.sweep_id` = '{sweep_id}'",
            "max_results": 1000,
        }
        runs = client.post(f"{api}/runs/search", json=body).json()["runs"]
    return [{"status": r["info"]["status"], **{t["key"]: t["value"] for t in r["data"]["tags"]}} for r in runs]


def _plain(value: str) -> str:
    return base64.b64decode(value).decode()


def each_trial_once(place: Place, sweep_id: str, trials: int) -> None:
    runs = runs_of(place, sweep_id)
    assert [run for run in runs if run["status"] not in ("FINISHED", "FAILED")] == []
    assert len([run for run in runs if run["tuneyard.kind"] == "sweep"]) == 1
    assert sorted(int(run["tuneyard.trial"]) for run in runs if "tuneyard.trial" in run) == list(range(trials))


def heads(place: Place, sweep_id: str) -> list[str]:
    """The head pods of a sweep's clusters; KubeRay begins their names with that of the job."""
    names = [pod["metadata"]["name"] for pod in place.found("pods", "--selector=ray.io/node-type=head")]
    return [name for name in names if name.startswith(sweep_id)]


def test_a_sweep_runs_on_a_cluster_of_its_own_which_ends_with_it(place: Place, token: str) -> None:
    sweep_id = submitted(place, token)
    ended = finished(place, token, sweep_id)
    assert ended.progress["best"]["value"] > 0.8
    each_trial_once(place, sweep_id, 6)
    deadline = time.monotonic() + 300  # the TTL of the overlay is a minute
    while heads(place, sweep_id) and time.monotonic() < deadline:
        time.sleep(5)
    assert heads(place, sweep_id) == []


def test_a_sweep_whose_head_is_deleted_goes_on_from_its_record(place: Place, token: str) -> None:
    sweep_id = submitted(place, token, *SLOW)
    patiently(place, token, lambda client: client.sweep(sweep_id), lambda s: s.progress.get("epochs", 0) >= 3)
    [head] = heads(place, sweep_id)
    place.kubectl("delete", "pod", head, "--wait=false")
    ended = finished(place, token, sweep_id)
    assert ended.attempt >= 2, "another driver has taken it over"
    each_trial_once(place, sweep_id, 6)
