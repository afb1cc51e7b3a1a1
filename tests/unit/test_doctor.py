"""What the doctor makes of a machine; the machine itself is looked at in the integration tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from service import doctor
from tests.kube.place import TEMPLATE, a_place


def test_environment_variables_that_sweeps_ignore_are_pointed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert list(doctor._variables()) == []
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:secret@mlflow")
    texts = [finding.text for finding in doctor._variables()]
    assert "ray://head:10001" in texts[0]
    assert "secret" not in texts[1]


def test_the_other_lightning_is_pointed_out(monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(doctor._twins()) == []
    monkeypatch.setattr(doctor, "version", lambda _package: "2.6.6")
    assert "pytorch-lightning" in next(doctor._twins()).text


def test_a_cuda_build_without_a_gpu_is_pointed_out() -> None:
    assert next(doctor._torch({"cuda": "12.9", "gpus": 0, "threads": 2})).level == "warning"
    assert next(doctor._torch({"cuda": "12.9", "gpus": 1, "threads": 2})).level == "good"
    assert next(doctor._torch({"cuda": None, "gpus": 0, "threads": 2})).level == "good"


def test_a_package_that_cannot_be_imported_is_an_error(home: Path) -> None:
    probe = doctor._probe("\nimport no_such_package", home)
    assert "no_such_package" in probe["error"]
    assert {finding.level for finding in (*doctor._ray(probe), *doctor._torch(probe), *doctor._mlflow(probe))} == {
        "error"
    }


def test_a_data_folder_that_cannot_be_made_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert next(doctor._folder(tmp_path / "a" / "b")).level in ("good", "warning")
    monkeypatch.setattr("service.doctor.os.access", lambda *_: False)
    assert next(doctor._folder(tmp_path / "a" / "b")).level == "error"


def test_a_folder_in_somebody_elses_data_folder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed, exists = tmp_path / "closed", Path.exists

    def for_others(path: Path) -> bool:
        if closed in path.parents:
            raise PermissionError(13, "Permission denied", str(path))
        return exists(path)

    closed.mkdir()
    monkeypatch.setattr(Path, "exists", for_others)
    monkeypatch.setattr("service.doctor.os.access", lambda path, _mode: path != closed)
    assert [(found.level, str(closed) in found.text) for found in doctor._folder(closed / "mine")] == [("error", True)]


def test_a_damaged_store_is_an_error(home: Path) -> None:
    (home / "mlflow.db").write_text("this is no database, but long enough to look like a file of one")
    assert "store" in next(doctor._mlflow(doctor._probe(doctor._MLFLOW, home))).text


def test_kubernetes_is_looked_at_where_a_service_is_set_up_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list(doctor._kubernetes({"cluster": "local"})) == []
    absent = next(doctor._kubernetes({"cluster": "kuberay", "kube_template": "no/such.yaml"}))
    assert (absent.level, "no/such.yaml" in absent.text) == ("error", True)
    with a_place(tmp_path, monkeypatch):
        found = next(doctor._kubernetes({"cluster": "kuberay", "kube_template": str(TEMPLATE)}))
    assert (found.level, "2 CPUs and 0 GPUs" in found.text) == ("good", True)
