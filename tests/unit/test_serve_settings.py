"""What an operator may set: options before variables, all faults at once, and never open to the world unasked."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from cluster import ray_head
from service.api.sweep_views import Views
from service.errors import BackendError, SpecError
from service.server.auth_settings import auth_settings
from service.server.mlflow_beside import answers_to
from service.server.serve import serve
from service.server.settings import ServeSettings, caution, is_loopback, settings_of, shared_by_pods
from service.settings import child_environment

HOME = Path("data")


def test_options_go_before_variables_and_those_before_defaults() -> None:
    found = settings_of(HOME, {"port": 1, "host": None}, {"port": "2", "host": "localhost", "allow_pip": "true"})
    assert (found.port, found.host, found.allow_pip, found.cluster) == (1, "localhost", True, "local")
    assert found.database_url == "sqlite:///data/service.db"


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "10.0.0.1"])  # noqa: S104  # what has to be refused
def test_others_than_this_machine_need_auth(host: str) -> None:
    with pytest.raises(SpecError, match="--auth token"):
        settings_of(HOME, {"host": host}, {})
    with pytest.raises(SpecError, match="--auth token"):
        settings_of(HOME, {"host": host, "auth": "none"}, {})
    assert settings_of(HOME, {"host": host, "auth": "token"}, {}).host == host


def test_loopback_goes_without_auth() -> None:
    assert settings_of(HOME, {}, {}).auth_kind == "none"
    assert [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "no.such.host.invalid")] == [True] * 3 + [
        False
    ]


def test_all_faults_are_told_at_once_and_no_password_with_them() -> None:
    with pytest.raises(SpecError) as caught:
        settings_of(
            HOME,
            {"port": 70000, "auth": "tokn", "database": "mysql://me:canary@db/x", "cluster": "ray://head"},
            {
                "webhook_networks": "10.0.0.1/8",
                "allow_pip": "perhaps",
                "mlflow": "yes",
                "drain_s": "-1",
                "driver_cpus": "-1",
                "cluster_ca": "no/such.pem",
            },
        )
    text = str(caught.value)
    assert len(caught.value.faults) == 10
    assert "did you mean 'token'?" in text
    assert "TUNEYARD_WEBHOOK_NETWORKS" in text
    assert "canary" not in text


def test_a_database_that_jobs_can_write_is_told_where_people_log_in() -> None:
    away = "http://head:8265"
    assert caution(ServeSettings(HOME)) is None
    assert "another user" in (caution(ServeSettings(HOME, auth="token")) or "")
    for database in ("", "sqlite:///data/db/mine.db?timeout=3"):
        assert "--database" in (caution(ServeSettings(HOME, auth="oidc", cluster=away, database=database)) or "")
    for database in ("sqlite:////var/lib/tuneyard/service.db", "postgresql://tuneyard@db/data"):
        assert caution(ServeSettings(HOME, auth="token", cluster=away, database=database)) is None


def test_where_sweeps_are_tracked_and_where_people_look() -> None:
    assert (ServeSettings(HOME).tracking_uri, ServeSettings(HOME).mlflow_url) == (None, None)
    beside = ServeSettings(HOME, mlflow="start", mlflow_port=5001)
    assert (beside.tracking_uri, beside.mlflow_url) == (None, "http://127.0.0.1:5001")
    other = ServeSettings(HOME, mlflow="https://mlflow.example")
    assert other.tracking_uri == other.mlflow_url == "https://mlflow.example"


@pytest.mark.parametrize("mlflow", [None, "start", "http://mlflow.internal:5000"])
def test_people_may_reach_mlflow_elsewhere_than_the_service_does(mlflow: str | None) -> None:
    found = settings_of(HOME, {"mlflow": mlflow, "mlflow_public_url": "https://mlflow.example.org/"}, {})
    assert found.mlflow_url == "https://mlflow.example.org"
    assert found.tracking_uri == (mlflow if mlflow != "start" else None)


def test_mlflow_answers_to_its_public_name_and_to_this_machine() -> None:
    given = answers_to("https://MLflow.example.org:8443/mlflow")
    assert given["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",") == [
        "mlflow.example.org:8443", "localhost", "localhost:*", "127.0.0.1", "127.0.0.1:*",
    ]  # fmt: skip
    assert given["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"] == "https://mlflow.example.org:8443"
    assert answers_to("") == {}


@pytest.mark.parametrize("name", ["mlflow", "mlflow_public_url", "public_url", "cluster"])
@pytest.mark.parametrize(
    "url", ["https://me:canary@example.org", "http://canary@example.org:5000/x", "https://:canary@h"]
)
def test_no_url_holds_a_password(name: str, url: str) -> None:
    with pytest.raises(SpecError, match="user and password") as caught:
        settings_of(HOME, {name: url}, {})
    assert "canary" not in str(caught.value)


SECRETS = {
    "TUNEYARD_DATABASE": "postgresql://tuneyard:canary@db/tuneyard", "TUNEYARD_TOKEN": "ty_x_canary",
    "TUNEYARD_OIDC_ISSUER": "https://canary", "PGPASSWORD": "canary", "RAY_AUTH_TOKEN": "canary",
}  # fmt: skip


def test_what_the_service_starts_gets_none_of_its_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in SECRETS.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "somebody")
    views = Views(tmp_path)
    try:
        assert views._reader.ask({"what": "curve", "sweep_id": "none"}) == {"missing": True}
        process = views._reader._process
        assert process is not None
        found = {"reader": psutil.Process(process.pid).environ()}
    finally:
        views.close()
    found["Ray"] = ray_head._environment(tmp_path, tmp_path / "token")
    found["MLflow and the folder maker"] = child_environment()
    for who, environment in found.items():
        assert "canary" not in str(environment), who
        assert environment["PATH"], who
    assert child_environment()["MLFLOW_TRACKING_USERNAME"] == "somebody", "MLflow's own are for MLflow"


def test_kubernetes_is_a_cluster_with_settings_of_its_own() -> None:
    given = {"cluster": "kuberay", "kube_namespace": "tuning", "kube_cluster": "ours"}
    found = settings_of(HOME, {"kube_template": "my.yaml"}, given)
    assert (found.cluster, found.kube_namespace, found.kube_cluster) == ("kuberay", "tuning", "ours")
    assert found.kube_template == Path("my.yaml")
    assert "data" in (shared_by_pods(found) or "")
    assert shared_by_pods(ServeSettings(HOME)) is None
    assert settings_of(HOME, {}, {"cluster": "kuberay"}).kube_template == Path("/etc/tuneyard/rayjob.yaml")
    with pytest.raises(SpecError) as caught:
        settings_of(HOME, {"kube_namespace": "tuning", "kube_template": "my.yaml"}, {"kube_cluster": "ours"})
    assert [fault.path for fault in caught.value.faults] == ["--kube-namespace", "--kube-template", "--kube-cluster"]
    with pytest.raises(SpecError, match="lower case letters"):
        settings_of(HOME, {"cluster": "kuberay", "kube_namespace": "Tuning!"}, {})


def test_a_template_with_faults_keeps_the_service_from_starting(tmp_path: Path) -> None:
    (tmp_path / "rayjob.yaml").write_text("{apiVersion: ray.io/v1, kind: RayJob, spec: {submissionMode: Job}}")
    options = {"cluster": "kuberay", "kube_template": str(tmp_path / "rayjob.yaml"), "port": "0"}
    with pytest.raises(BackendError, match=r"rayjob.yaml cannot be used:\n  spec.submissionMode: is 'Job'"):
        serve(settings_of(tmp_path, options, {}), auth_settings("none", {}), print)
