"""From a sweep file to a job: the code's folder, and names of the user's that would hide ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.errors import SpecError
from service.submission import prepare

SWEEP = """
name: small
fit: {model: {class_path: net.Net}, trainer: {max_epochs: 3}}
metric: {name: val_loss, goal: minimize}
parameters: {model.init_args.width: {min: 1, max: 8}}
budget: {max_trials: 3}
"""


@pytest.fixture
def sweep_file(tmp_path: Path) -> Path:
    path = tmp_path / "sweep.yaml"
    path.write_text(SWEEP)
    return path


def test_a_job_knows_its_code_its_source_and_its_facts(sweep_file: Path) -> None:
    job = prepare(sweep_file, ["budget.max_trials=5"], signatures=False)
    assert job.code_root == str(sweep_file.parent)
    assert job.source == str(sweep_file)
    assert job.spec["budget"]["max_trials"] == 5
    assert job.facts["torch"]
    assert not job.checks_signatures


@pytest.mark.parametrize("name", ["service/__init__.py", "trainables.py", "cluster/__init__.py"])
def test_a_package_with_a_name_of_ours_is_refused(sweep_file: Path, name: str) -> None:
    taken = sweep_file.parent / name
    taken.parent.mkdir(exist_ok=True)
    taken.touch()
    with pytest.raises(SpecError, match="has the name of one of Tuneyard's") as caught:
        prepare(sweep_file, [], signatures=False)
    assert caught.value.faults[0].path == "code.root"


def test_a_folder_that_is_no_package_may_have_any_name(sweep_file: Path) -> None:
    (sweep_file.parent / "cluster").mkdir()
    assert prepare(sweep_file, [], signatures=False).code_root == str(sweep_file.parent)
