"""A driver's word comes through the edge as it is; anything else comes through as some driver's word."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.control import sighting
from service.queueing.news import news
from service.queueing.queue import demand
from service.records import State, SweepRecord
from service.sweeps.driver_word import tidied
from service.tuning.storage_objects import ObjectStorage
from service.views.progress import line, picture
from tests.controlled import SPEC

NAMES = ["state", "reason", "best", "metric", "trials", "total", "completed", "trial", "value", "params", "running",
         "rungs", "epoch", "epochs", "faults", "message", "tracking", "lag", "is_final", "fits", "over", "error",
         "warnings", "eta_s", "elapsed_s", "expected_improvement", "trial_hours", "name", "goal", "values"]  # fmt: skip
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=()))
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=6)
)
WORD: dict[str, Any] = {
    "sweep_id": "digits-20261123-000001", "name": "digits", "state": "running", "reason": "", "pid": 7,
    "is_final": False, "at": 5.0, "elapsed_s": 4.5, "eta_s": None, "epochs": 9, "trial_hours": 0.25,
    "metric": {"name": "val_acc", "goal": "maximize"}, "expected_improvement": None, "min_expected_improvement": 0.1,
    "trials": {"total": None, "pending": 0, "running": 1, "paused": 0, "completed": 1, "stopped": 0, "diverged": 0,
               "failed": 0},
    "fits": {"over": 3, "running": 1},
    "best": {"trial": 1, "epoch": 3, "value": 0.9, "params": {"lr": 0.1, "layers": [1, {"a": True}], "kind": None},
             "values": {"val_acc": 0.9}, "front": 2, "error": 0.01, "fits": 4},
    "rungs": [{"epoch": 1, "reached": 2}],
    "running": [{"trial": 2, "epoch": 0, "value": None, "params": {"lr": 1e-3}, "repeats": None, "fold": 0, "seed": 1}],
    "tracking": {"delivered": None, "lag": 3},
    "warnings": ["slow"],
    "faults": [{"message": "no", "path": "a.b", "file": "", "line": None, "given": "x", "allowed": None,
                "nearest": None}],
}  # fmt: skip


def test_a_drivers_word_comes_through_as_it_is() -> None:
    assert tidied(WORD) == WORD


@given(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=12))
def test_whatever_was_said_can_be_used_stored_and_shown(said: dict[str, Any]) -> None:
    word = tidied(said)
    assert "\0" not in json.loads(json.dumps(word, allow_nan=False).encode()).get("reason", "")
    json.dumps(word, ensure_ascii=False).encode()
    assert tidied(word) == word
    before = SweepRecord("digits-20261123-000001", "default", "ada", "digits", SPEC)
    after = SweepRecord("digits-20261123-000001", "default", "ada", "digits", SPEC, State.RUNNING, progress=word)
    news(before, after, "controller")
    news(after, before, "controller")
    assert demand(after).cpu == 1
    line(word)
    picture(word)


def test_words_out_of_an_object_store_are_kept_no_longer_than_they_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, reads = [0.0], list[str]()

    def read(place: ObjectStorage) -> dict[str, Any]:
        reads.append(place.name)
        return WORD

    monkeypatch.setattr(sighting, "_word_in", read)
    monkeypatch.setattr("service.control.sighting.time.monotonic", lambda: clock[0])
    monkeypatch.setattr(sighting, "_heard", {})
    sweeps = [ObjectStorage("s3://bucket", f"sweeps/{number}") for number in range(100)]
    for place in sweeps:
        sighting.newest_word(place)
        assert sighting.newest_word(place) == WORD
        clock[0] += place.pace_s / 10
    assert len(reads) == len(sweeps)
    assert 1 < len(sighting._heard) < 10
