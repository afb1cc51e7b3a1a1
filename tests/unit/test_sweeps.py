"""Sweep folders: ids, what a person may type for one, and folders that are half there."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from service.errors import SweepNotFoundError
from service.sweeps import folders
from service.sweeps.folders import Sweep
from service.tuning.sweep_folder import Job
from service.views.overview import rows


def make(home: Path, sweep_id: str, name: str, created_at: float) -> Sweep:
    sweep = folders.create(home, Job(sweep_id, {"name": name}), {"folder": "."})
    os.utime(sweep.folder / "sweep.json", (created_at, created_at))
    return sweep


def test_a_new_data_folder_is_its_owners_alone_and_an_old_one_stays_as_it_is(tmp_path: Path) -> None:
    with folders.one_at_a_time(tmp_path / "a" / "home"):
        assert (tmp_path / "a" / "home").stat().st_mode & 0o777 == 0o700
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o775)
    make(tmp_path / "shared", "one-20261101-000001", "one", 100)
    assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o775


@pytest.mark.parametrize("name", ["digits", "Digits CNN", "7 seas", "ß", "a" * 200, "--", "x_y.z"])
def test_an_id_suits_kubernetes_whatever_the_name(name: str) -> None:
    found = folders.new_id(name)
    assert len(found) <= 47
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?-\d{8}-[0-9a-f]{6}", found)


def test_all_that_a_new_sweep_begins_with_is_on_the_disk(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, sync = set(), os.fsync

    def noted(descriptor: int) -> None:
        sync(descriptor)
        synced.add(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", noted)
    sweep = folders.create(home, Job("digits-20261123-0a1b2c", {}), {"folder": "."}, b"past")
    assert sweep.launch() == {"folder": "."}
    assert {path.stat().st_ino for path in sweep.folder.iterdir()} < synced


def test_ids_of_one_name_differ() -> None:
    assert len({folders.new_id("digits") for _ in range(50)}) == 50


def test_the_newest_sweep_comes_first_and_is_the_default(home: Path) -> None:
    make(home, "old-20261101-000001", "old", 100)
    make(home, "new-20261102-000002", "new", 200)
    assert [s.name for s in folders.every(home)] == ["new", "old"]
    assert folders.find(home, None).name == "new"


def test_a_sweep_is_found_by_id_by_name_and_by_how_its_id_begins(home: Path) -> None:
    make(home, "digits-20261101-aaaaaa", "digits", 100)
    make(home, "digits-20261102-bbbbbb", "digits", 200)
    make(home, "digits-big-20261103-cccccc", "digits-big", 300)
    assert folders.find(home, "digits-20261101-aaaaaa").id == "digits-20261101-aaaaaa"
    assert folders.find(home, "digits").id == "digits-20261102-bbbbbb"
    assert folders.find(home, "digits-b").id == "digits-big-20261103-cccccc"


def test_what_means_several_sweeps_or_none_is_an_error_that_names_them(home: Path) -> None:
    with pytest.raises(SweepNotFoundError, match="tuneyard run"):
        folders.find(home, None)
    make(home, "digits-20261101-aaaaaa", "digits", 100)
    make(home, "digits-20261102-bbbbbb", "digits", 200)
    with pytest.raises(SweepNotFoundError, match=r"begins the ids of 2 sweeps.*aaaaaa"):
        folders.find(home, "digits-2026")
    with pytest.raises(SweepNotFoundError, match="did you mean 'digits'"):
        folders.find(home, "digist")


def test_a_folder_that_is_not_whole_is_no_sweep(home: Path) -> None:
    (home / "sweeps" / ".digits-20261101-aaaaaa").mkdir(parents=True)
    (home / "sweeps" / "stray").mkdir()
    assert folders.every(home) == []


def test_progress_that_cannot_be_read_counts_as_none(home: Path) -> None:
    sweep = make(home, "digits-20261101-aaaaaa", "digits", 100)
    assert sweep.progress() is None
    sweep.path("progress.json").write_text('{"state": "run')
    assert sweep.progress() is None
    sweep.write_progress({"state": "running"})
    assert sweep.progress() == {"state": "running"}


@pytest.mark.parametrize("content", ["", "{", "[]", '{"colour": "red"}'])
def test_a_damaged_job_is_told_of_and_hides_no_other_sweep(home: Path, content: str) -> None:
    make(home, "good-20261101-000001", "good", 100)
    bad = make(home, "bad-20261102-000002", "bad", 200)
    (bad.folder / "sweep.json").write_text(content)
    assert folders.find(home, "good").id == "good-20261101-000001"
    assert folders.find(home, "bad").id == bad.id
    with pytest.raises(SweepNotFoundError, match="is damaged"):
        bad.spec()


def test_a_damaged_record_of_a_job_hides_no_sweep_from_the_list(home: Path) -> None:
    make(home, "good-20261101-000001", "good", 100)
    bad = make(home, "bad-20261102-000002", "bad", 200)
    bad.write_progress({"state": "running"})
    (bad.folder / "job.json").write_text("{")
    assert {row["name"]: row["state"] for row in rows(home)} == {"good": "interrupted", "bad": "unreadable"}
