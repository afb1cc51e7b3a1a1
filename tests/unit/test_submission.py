"""From a sweep file to a job: the code's folder, and names of the user's that would hide ours."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from service.errors import SpecError
from service.sweeps.folders import create
from service.sweeps.submission import forked, prepare

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


def test_a_fork_learns_from_the_old_sweep_and_keeps_its_code(sweep_file: Path, tmp_path: Path) -> None:
    job = prepare(sweep_file, [], signatures=False)
    old = create(tmp_path / "home", job, {})
    new = forked(old, ["parameters.model.init_args.width.max=4", "name=narrow"], keeps_results=True)
    assert new.sweep_id.startswith("narrow-")
    assert new.code_root == job.code_root
    assert new.spec["search"]["warm_start"] == [old.id]
    assert new.spec["parameters"]["model.init_args.width"]["max"] == 4
    assert forked(old, [], keeps_results=False).spec["search"].get("warm_start", []) == []
    with pytest.raises(SpecError, match="did you mean"):
        forked(old, ["parameters.model.init_args.widht.max=4"], keeps_results=True)


@pytest.mark.parametrize("text", ["timm", "timm==1.0.9", "torch-geometric[full]>=2.6,<3", "a ~= 1.0"])
def test_a_package_of_the_job_is_a_name_with_versions(sweep_file: Path, text: str) -> None:
    assert prepare(sweep_file, [f"code.pip=['{text}']"], signatures=False).spec["code"]["pip"] == [text]


@pytest.mark.parametrize("text", ["--index-url=http://x", "x @ http://x", "git+https://x/y", "timm\n-r x", "", "a;b"])
def test_what_could_change_how_packages_are_installed_is_refused(sweep_file: Path, text: str) -> None:
    with pytest.raises(SpecError, match=r"code\.pip"):
        prepare(sweep_file, [f"code.pip={json.dumps([text])}"], signatures=False)
