"""A place on Kubernetes for tests: the API server of TUNEYARD_TEST_KUBECONFIG, else one that behaves as it does."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from lightkube import Client
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Namespace
from lightkube.types import PatchType

from cluster.kuberay import KubeRayBackend, Location
from tests.kube.operator import RAY_CLUSTER, RAY_JOB, Operator
from tests.kube.server import OPERATOR, SERVICE, KubeServer, running

TEMPLATE = Path(__file__).resolve().parent / "rayjob.yaml"
REAL = os.environ.get("TUNEYARD_TEST_KUBECONFIG", "")


@dataclass
class KubePlace:
    """The API server, who plays KubeRay there, and every connection that was made."""

    operator: Operator
    server: KubeServer | None
    location: Location
    made: list[KubeRayBackend] = field(default_factory=list)

    def connect(self, **changed: object) -> KubeRayBackend:
        self.made.append(KubeRayBackend(replace(self.location, **changed)))  # type: ignore[arg-type]  # its own fields
        return self.made[-1]


@contextmanager
def a_place(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    is_real: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Iterator[KubePlace]:
    """The place, with an operator at work; `environment` is that of every pod."""
    with _api(folder, monkeypatch, is_real=is_real) as (server, namespace):
        operator = Operator(namespace, folder, environment).start()
        if server is not None:  # whoever connects from now on is the service
            monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(folder, SERVICE)))
        place = KubePlace(operator, server, Location(TEMPLATE, namespace))
        try:
            yield place
        finally:
            for backend in place.made:
                backend.close()
            operator.close()


@contextmanager
def _api(folder: Path, monkeypatch: pytest.MonkeyPatch, *, is_real: bool) -> Iterator[tuple[KubeServer | None, str]]:
    if not is_real:
        with running() as server:
            monkeypatch.setenv("KUBECONFIG", str(server.kubeconfig(folder, OPERATOR)))
            yield server, "test"
        return
    monkeypatch.setenv("KUBECONFIG", REAL)
    name = f"tuneyard-test-{secrets.token_hex(3)}"
    with Client() as client:
        client.create(Namespace(metadata=ObjectMeta(name=name)))
        try:
            yield None, name
        finally:
            for kind in (RAY_JOB, RAY_CLUSTER):  # whoever would take their finalizers away has gone
                for left in client.list(kind, namespace=name):
                    change: dict[str, object] = {"metadata": {"finalizers": None}}
                    client.patch(kind, left["metadata"]["name"], change, namespace=name, patch_type=PatchType.MERGE)
            client.delete(Namespace, name)
