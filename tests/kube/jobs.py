"""What tests of the Kubernetes backend say again and again."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import yaml

from cluster.backend import JobRequest, JobState
from cluster.kuberay import KubeRayBackend
from tests.kube.objects import Thing
from tests.kube.place import TEMPLATE, KubePlace
from tests.kube.server import KubeServer

SLEEP = "import time; print('ready', flush=True); time.sleep(600)"


def server_of(place: KubePlace) -> KubeServer:
    assert place.server is not None
    return place.server


def python(code: str, job_id: str = "a-job", attempt: int = 1) -> JobRequest:
    return JobRequest(job_id, (sys.executable, "-c", code), "/", attempt)


def template(folder: Path, **changed: Any) -> Path:  # noqa: ANN401  # a manifest's values
    made = yaml.safe_load(TEMPLATE.read_text())
    made["metadata"]["labels"].update(changed.pop("labels", {}))
    made["spec"].update(changed)
    path = folder / "changed.yaml"
    path.write_text(yaml.safe_dump(made))
    return path


def state(backend: KubeRayBackend, job_id: str = "a-job") -> JobState:
    return backend.statuses([job_id])[job_id].state


def rayjob(place: KubePlace, job_id: str = "a-job") -> Thing:
    return server_of(place).objects.get("rayjobs", "test", job_id)
