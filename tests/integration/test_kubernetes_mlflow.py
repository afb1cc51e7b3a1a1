"""MLflow as k8s/base/mlflow.yaml starts it: that very command, over a real PostgreSQL and a real S3 protocol."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest
import yaml

from tests.object_store import ObjectStore
from tests.ports import free_port
from tests.postgresql import binaries, server
from tests.readme import ROOT

PATIENCE_S = 120.0
LOGIN = ("tuneyard", "a-login-for-the-test")
MISSING = [name for name in ("flask_wtf", "moto", "boto3") if find_spec(name) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"MLflow's login and its object store need {', '.join(MISSING)}"),
    pytest.mark.skipif(binaries() is None, reason="there is no PostgreSQL here"),
]


def container() -> dict[str, Any]:
    """MLflow's container as the manifest has it."""
    [deployment, _] = yaml.safe_load_all((ROOT / "k8s" / "base" / "mlflow.yaml").read_text())
    [found] = deployment["spec"]["template"]["spec"]["containers"]
    return dict(found)


@contextmanager
def running(command: list[str], log: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
        try:
            yield process
        finally:
            os.killpg(process.pid, 9)
            process.wait()


def until_it_answers(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx2.get(url, timeout=2).status_code == 200:
                return
        except httpx2.HTTPError:
            pass
        time.sleep(0.3)
    raise AssertionError(log.read_text()[-3000:])


def script(tmp_path: Path, port: int) -> str:
    """The container's own, with this test's port and places."""
    [text] = container()["args"]
    for written, here in (("--port 5000", f"--port {port}"), ("/etc/mlflow/", f"{tmp_path}/")):
        assert written in text
        text = text.replace(written, here)
    return str(text)


def environment(tmp_path: Path, database: str, store: str) -> dict[str, str]:
    """The container's variables: literal ones as they are, the others as the Secrets would have them."""
    given = {entry["name"]: entry["value"] for entry in container()["env"] if "value" in entry}
    secret = {
        "MLFLOW_BACKEND_STORE_URI": database, "MLFLOW_FLASK_SERVER_SECRET_KEY": "signs",
        "MLFLOW_AUTH_ADMIN_USERNAME": LOGIN[0], "MLFLOW_AUTH_ADMIN_PASSWORD": LOGIN[1],
        "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing",
    }  # fmt: skip
    assert {entry["name"] for entry in container()["env"] if "valueFrom" in entry} == set(secret)
    [settings, *_] = [
        made
        for made in yaml.safe_load((ROOT / "k8s" / "base" / "kustomization.yaml").read_text())["configMapGenerator"]
        if made["name"] == "mlflow-settings"
    ]
    literals = dict(line.split("=", 1) for line in settings["literals"])
    places = {
        "MLFLOW_AUTH_CONFIG_PATH": str(tmp_path / "made.ini"), "HOME": str(tmp_path), "AWS_ENDPOINT_URL": store,
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]), "AWS_REGION": "us-east-1",
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    }  # fmt: skip
    return {**given, **secret, **literals, **places}


def test_its_login_its_hosts_and_its_object_store(tmp_path: Path, s3_server: ObjectStore) -> None:
    (tmp_path / "basic_auth.ini").write_text((ROOT / "k8s" / "base" / "mlflow-auth.ini").read_text())
    port, store = free_port(), s3_server.variables["AWS_ENDPOINT_URL"]
    url = f"http://127.0.0.1:{port}"
    s3_server.make_bucket("tuneyard")
    with server() as database:
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("CREATE DATABASE mlflow")
        theirs = database.replace("/postgres?", "/mlflow?").replace("postgresql://", "postgresql+psycopg://")
        command = [*container()["command"], script(tmp_path, port)]
        with running(command, tmp_path / "log", environment(tmp_path, theirs, store)) as mlflow:
            until_it_answers(f"{url}/health", mlflow, tmp_path / "log")
            answers(url, store)


def answers(url: str, store: str) -> None:
    search = f"{url}/api/2.0/mlflow/experiments/search?max_results=1"
    assert httpx2.get(search, timeout=PATIENCE_S).status_code == 401
    assert httpx2.get(search, auth=("tuneyard", "wrong"), timeout=PATIENCE_S).status_code == 401
    with httpx2.Client(auth=LOGIN, timeout=PATIENCE_S) as client:
        assert client.get(search, headers={"Host": "mlflow:5000"}).status_code == 200
        assert client.get(search, headers={"Host": "elsewhere.example.org"}).status_code == 403
        made = client.post(f"{url}/api/2.0/mlflow/experiments/create", json={"name": "digits"})
        assert made.status_code == 200, made.text
        run = client.post(
            f"{url}/api/2.0/mlflow/runs/create", json={"experiment_id": made.json()["experiment_id"]}
        ).json()["run"]
        place = run["info"]["artifact_uri"].removeprefix("mlflow-artifacts:/")
        put = client.put(f"{url}/api/2.0/mlflow-artifacts/artifacts/{place}/report.html", content=b"<p>here</p>")
        assert put.status_code == 200, put.text
    assert f"mlflow/{place}/report.html" in httpx2.get(f"{store}/tuneyard", timeout=PATIENCE_S).text
