"""What `search.warm_start` finds under the data folder, what it refuses, and what the new sweep's folder then holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from service.errors import SpecError
from service.spec.sweep_spec import SweepSpec, parse_sweep
from service.sweeps.folders import create
from service.sweeps.past_sweeps import gather, with_past
from service.tuning.assembly import build
from service.tuning.events import AttemptStarted, Event, Reported, SweepStarted, TrialProposed
from service.tuning.history import History
from service.tuning.knowledge import ABOUT_FACT, DIGEST_FACT, read_past
from service.tuning.ledger import Ledger
from service.tuning.storage import FolderStorage
from service.tuning.sweep_folder import Job, read_job
from service.tuning.warm_start import WarmStarted

SWEEP = """
name: small
fit: {model: {class_path: net.Net, init_args: {width: 4}}, trainer: {max_epochs: 9}}
metric: {name: val_loss, goal: minimize}
parameters:
  model.init_args.width: {min: 1, max: 64}
  model.init_args.rate: {min: 0.1, max: 1.0}
search: {name: random}
budget: {max_trials: 30}
"""


def spec(*overrides: str) -> SweepSpec:
    return parse_sweep(SWEEP, file="sweep.yaml", root=Path(), overrides=overrides)


def left_behind(home: Path, name: str, *overrides: str, trials: int = 6, metric: str = "val_loss") -> str:
    """An earlier sweep of `trials` trials; its id."""
    earlier = spec(f"name={name}", *overrides)
    job = Job(f"{name}-20261122-00000{len(name) % 10}", earlier.to_dict())
    sweep = create(home, job, {})
    events: list[Event] = [SweepStarted(job.sweep_id, job.spec)]
    for number in range(trials):
        params: dict[str, Any] = {key: earlier.space[key].from_unit((number + 0.5) / trials) for key in earlier.space}
        events += [TrialProposed(number, params, "searcher", number), AttemptStarted(number, 1, params, None, "new")]
        events += [Reported(number, 1, e, {metric: number / e}, float(e), None, "continue", "") for e in (1, 3)]
    Ledger(FolderStorage(sweep.folder), lambda: 1.0).append(events)
    return job.sweep_id


def refusal(home: Path, *overrides: str) -> str:
    with pytest.raises(SpecError) as caught:
        gather(home, spec(*overrides), "sweep.yaml")
    return str(caught.value)


def test_a_sweep_that_is_named_goes_into_the_new_ones_folder_and_is_needed_no_more(tmp_path: Path) -> None:
    identity = left_behind(tmp_path, "old")
    resolved = spec("search.warm_start=old")
    job, data = with_past(tmp_path, Job("new-20261123-000001", resolved.to_dict()))
    assert job.facts[ABOUT_FACT] == f"6 trials of {identity}"
    sweep = create(tmp_path, job, {}, data)
    past = read_past(sweep.folder, read_job(sweep.folder).facts)
    assert [(found.name, len(found.trials)) for found in past] == [(identity, 6)]
    decider = build(resolved, History(resolved.objectives), {}, past).decider
    assert isinstance(decider.searcher, WarmStarted)
    first = decider.start(0.0)
    assert isinstance(first.events[0], TrialProposed)
    assert (first.events[0].source, first.events[0].params) == ("warm_start", past[0].trials[0].params)
    again, same = with_past(tmp_path, Job("new-20261123-000001", resolved.to_dict()))
    assert (again, same) == (job, data)


def test_auto_takes_sweeps_of_the_same_kind_the_newest_first(tmp_path: Path) -> None:
    left_behind(tmp_path, "aa")
    left_behind(tmp_path, "bbb", "fit.model.class_path=net.Other")
    left_behind(tmp_path, "cccc", "metric.goal=maximize")
    left_behind(tmp_path, "ddddd", "parameters={other: {min: 0, max: 1}}")
    left_behind(tmp_path, "eeeeee", "parameters={model.init_args.width: {min: 1, max: 9}}")
    left_behind(tmp_path, "fffffff", trials=1)
    damaged = tmp_path / "sweeps" / left_behind(tmp_path, "gggggggg")
    next((damaged / "ledger").iterdir()).write_bytes(b"{}\n" + b"x" * 900)
    found = gather(tmp_path, spec("search.warm_start=auto"), "")
    assert [past.name[:2] for past in found.sweeps] == ["ee", "aa"]
    assert found.sweeps[0].trials[0].params == {"model.init_args.width": 1}
    both = gather(tmp_path, spec("search.warm_start=[aa, auto]"), "")
    assert [past.name[:2] for past in both.sweeps] == ["aa", "ee"]


def test_a_ledger_that_leads_out_of_its_sweeps_folder_is_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "sweeps" / left_behind(tmp_path, "theirs")
    mine = tmp_path / "sweeps" / left_behind(tmp_path, "mine")
    for segment in (mine / "ledger").iterdir():
        segment.unlink()
    for segment in (other / "ledger").iterdir():
        (mine / "ledger" / segment.name).symlink_to(segment)
    assert "is a link" in refusal(tmp_path, "search.warm_start=mine")


def test_auto_without_any_is_no_fault_and_says_so(tmp_path: Path) -> None:
    job, data = with_past(tmp_path, Job("new", spec("search.warm_start=auto").to_dict()))
    assert data is None
    assert "no earlier sweep" in job.facts[ABOUT_FACT]
    assert DIGEST_FACT not in job.facts
    plain = Job("new", spec().to_dict())
    assert with_past(tmp_path, plain) == (plain, None)


def test_what_is_named_and_useless_is_refused_at_once_with_all_reasons(tmp_path: Path) -> None:
    left_behind(tmp_path, "old", "parameters={lr: {min: 0, max: 1}}")
    left_behind(tmp_path, "acc", metric="val_acc")
    left_behind(tmp_path, "high", "parameters={model.init_args.width: {min: 100, max: 200}}")
    left_behind(tmp_path, "empty", trials=0)
    said = refusal(tmp_path, "search.warm_start=[olld, old, acc, high, empty, 'mlflow:x']")
    for text in (
        "sweep.yaml: search.warm_start[0]: no sweep 'olld'",
        "did you mean 'old'?",
        "[1]: shares no parameter with this sweep; it has lr",
        "[2]: has no trial that reported val_loss; they reported val_acc",
        "[3]: has no trial with a value inside this sweep's bounds",
        "[4]: has no trial that reported val_loss",
        "[5]: there is no MLflow store under",
    ):
        assert text in said


def test_grid_learns_from_nothing() -> None:
    with pytest.raises(SpecError, match="grid walks a list"):
        spec("search={name: grid, warm_start: auto}")


def test_runs_of_others_are_known_by_the_last_word_of_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = [
        {"sweep": "", "params": {"width": 8, "lr": 0.1}, "metrics": {"1": {"val_loss": 0.5}}, "broke": False},
        {"sweep": "s-1", "params": {"model.init_args.width": 9}, "metrics": {"2": {"val_loss": 0.4}}, "broke": False},
    ]
    told = tmp_path / "answer.json"
    told.write_text(json.dumps(answer))
    fake = tmp_path / "service" / "tuning" / "tracking_past.py"
    fake.parent.mkdir(parents=True)
    fake.write_text(f"print(open({str(told)!r}).read())")
    for package in (fake.parent, fake.parent.parent):
        (package / "__init__.py").touch()
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = gather(tmp_path, spec("search.warm_start={experiment: x, uri: 'http://u:secret@nowhere'}"), "")
    assert [(past.name, past.trials[0].params) for past in found.sweeps] == [
        ("s-1", {"model.init_args.width": 9}), ("mlflow:x", {"model.init_args.width": 8})
    ]  # fmt: skip
    fake.write_text("import sys; sys.exit('http://u:secret@nowhere is away')")
    assert "secret" not in refusal(tmp_path, "search.warm_start={experiment: x, uri: 'http://u:secret@nowhere'}")
