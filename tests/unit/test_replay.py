"""`tuneyard replay`: a record holds or it does not, and what another choice would have made of recorded curves."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from service.cli.main import app
from service.errors import LedgerError, SpecError
from service.spec.sweep_spec import SweepSpec, parse_sweep
from service.tuning.assembly import build, history_of, race_of
from service.tuning.decisions import Decider
from service.tuning.events import AttemptStarted, Params, Record, Reported, SweepStarted, TrialProposed
from service.tuning.history import History
from service.tuning.ledger import Ledger, read_ledger
from service.tuning.limits import Limits
from service.tuning.recorded_curves import RecordedCurves, read_curves
from service.tuning.replay import Replayed, replay, replay_folder
from service.tuning.storage import FolderStorage
from service.tuning.sweep_folder import Job, write_job
from service.tuning.what_if import Recorded, WhatIf, what_if
from tests.conducted import LOSS, Counting, Exploiting, Patient, Sweep
from tests.simulator import Curves, Simulation

TEXT = """
name: played
seed: 3
fit: {trainer: {max_epochs: 9}}
metric: {name: loss, goal: minimize}
parameters: {x: {min: 0.01, max: 10.0, distribution: log_uniform}, kind: {values: [a, b]}}
search: {name: random, start_from_defaults: false}
scheduler: {name: fifo}
budget: {max_trials: 20}
"""
CURVES = Curves(lambda p, e: {"loss": p["x"] + (p["kind"] == "b") + 5 / e}, lambda p, e: 1.0 + p["x"] + 0 * e)


def spec_of(**sections: Any) -> SweepSpec:  # noqa: ANN401  # sections of a sweep file
    data = parse_sweep(TEXT, file="sweep.yaml", root=Path()).to_dict()
    return SweepSpec.from_dict({**data, **sections})


def played(spec: SweepSpec) -> list[Record]:
    """The record of a simulated sweep."""
    decider = build(spec, History(spec.objectives), {}).decider
    simulation = Simulation(
        spec.objectives, decider.searcher, decider.scheduler, CURVES, max_trials=spec.budget.max_trials
    )
    simulation.run()
    first = Record(0, 1.0, SweepStarted("played", spec.to_dict()))
    return [first, *(Record(r.sequence + 1, r.at, r.event) for r in simulation.records)]


def again(spec: SweepSpec, records: Sequence[Record]) -> Replayed:
    return replay(records, build(spec, History(spec.objectives), {}).decider)


@pytest.mark.parametrize("scheduler", [{"name": "asha"}, {"name": "pbt"}, {"name": "asha", "variant": "promotion"}])
def test_an_honest_record_holds(scheduler: dict[str, Any]) -> None:
    spec = spec_of(search={"name": "tpe", "n_startup": 3}, scheduler={**scheduler, "max_epochs": 9})
    records = played(spec)
    result = again(spec, records)
    assert result.difference is None
    assert result.proposals == 20
    assert result.decisions >= sum(isinstance(r.event, Reported) for r in records)


@pytest.mark.parametrize("kind", [TrialProposed, AttemptStarted, Reported])
def test_a_record_that_was_changed_does_not(kind: type) -> None:
    spec = spec_of(scheduler={"name": "asha", "variant": "promotion", "max_epochs": 9})
    records = played(spec)
    place = [i for i, r in enumerate(records) if isinstance(r.event, kind)][12]
    event: Any = records[place].event
    changed: dict[type, dict[str, Any]] = {
        TrialProposed: {"params": {"x": 0.5, "kind": "a"}},
        AttemptStarted: {"reason": "why not"},
        Reported: {"action": "stop"},
    }
    records[place] = Record(place, records[place].at, replace(event, **changed[kind]))
    result = again(spec, records)
    assert result.difference is not None
    assert result.difference.sequence == place
    assert result.difference.recorded != result.difference.decided


def test_other_results_show_where_they_first_mattered() -> None:
    spec = spec_of(scheduler={"name": "asha", "max_epochs": 9})
    records = played(spec)
    place = next(i for i, r in enumerate(records) if isinstance(r.event, Reported))
    event: Any = records[place].event
    records[place] = Record(place, 1.0, replace(event, metrics={"loss": 0.0}))
    result = again(spec, records)
    assert result.difference is not None
    assert result.difference.sequence > place


@pytest.mark.parametrize("scheduler", [Patient(pause_at=(1,), drops=(1,)), Exploiting()])
def test_whatever_breaks_and_whoever_drives_the_record_holds(tmp_path: Path, scheduler: Any) -> None:  # noqa: ANN401  # a scheduler
    limits = Limits(max_epochs=3, max_trials=4, wall_clock_s=100.0, max_restarts=1)
    points = [("defaults", {"x": -1})]
    sweep = Sweep(tmp_path, limits, scheduler=scheduler, first_points=points)
    first, second = sweep.start(), sweep.start()
    sweep.report(first, 1, checkpoint=sweep.saved(first, 1))
    sweep.report(second, 1, checkpoint=sweep.saved(second, 1))
    conductor = sweep.conductor
    conductor.attempt_failed(sweep.start(), 1, "user", "broke")
    sweep = Sweep(tmp_path, limits, scheduler=scheduler, first_points=points)
    sweep.conductor.interrupt_running("the driver before was lost")
    third = sweep.start()
    sweep.conductor.checkpoint_lost(third, sweep.history.trials[third].attempt, "unreadable")
    fourth = sweep.start()
    sweep.conductor.attempt_over(fourth, sweep.history.trials[fourth].attempt)
    sweep.conductor.is_draining = True
    for trial in [t.number for t in sweep.history.unfinished() if t.status == "running"]:
        sweep.report(trial, 2, checkpoint=sweep.saved(trial, 2))
    sweep.conductor.is_draining = False
    sweep.now = 101.0
    while sweep.conductor.start() is not None:
        pytest.fail("the wall clock has run out")
    sweep.conductor.end(None)
    records = read_ledger(tmp_path)
    result = replay(records, Decider(Counting(), scheduler, limits, History(LOSS), points))
    assert result.difference is None
    assert result.by_the_clock >= 1


def test_what_a_driver_found_out_without_a_record_is_found_out_again(tmp_path: Path) -> None:
    limits, scheduler = Limits(max_epochs=2), Patient(pause_at=(1,))
    sweep = Sweep(tmp_path, limits, scheduler=scheduler, searcher=Counting(2))
    first, second = sweep.start(), sweep.start()
    assert sweep.conductor.start() is None, "the search space is used up, which nothing says"
    sweep.report(first, 1, checkpoint=sweep.saved(first, 1))
    assert sweep.start() == first
    sweep.report(second, 1, checkpoint=sweep.saved(second, 1))
    sweep.report(first, 2)
    sweep.report(sweep.start(), 2)
    assert sweep.conductor.start() is None
    sweep.conductor.end(None)
    result = replay(read_ledger(tmp_path), Decider(Counting(2), scheduler, limits, History(LOSS)))
    assert (result.difference, result.proposals) == (None, 2)


class Fickle(Counting):
    """Answers by how often it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def propose(self, history: History) -> Params | None:  # noqa: ARG002  # the seam's signature
        self.asked += 1
        return {"x": self.asked % 7}


def test_a_searcher_with_a_memory_of_its_own_is_found_out(tmp_path: Path) -> None:
    limits = Limits(max_epochs=1, max_trials=9)
    searcher = Fickle()
    sweep = Sweep(tmp_path, limits, searcher=searcher)
    for _ in range(9):
        searcher.propose(sweep.history)
        sweep.report(sweep.start(), 1)
    result = replay(read_ledger(tmp_path), Decider(Fickle(), Patient(), limits, History(LOSS)))
    assert result.difference is not None
    assert "TrialProposed" in result.difference.recorded


def other(recorded: SweepSpec, workers: int | None = None, **sections: Any) -> WhatIf:  # noqa: ANN401  # as above
    return what_if(Recorded(played(recorded), recorded, {}), spec_of(**sections), workers)


def test_another_scheduler_on_whole_curves_costs_and_finds_what_it_would_have() -> None:
    asha = {"name": "asha", "max_epochs": 9}
    found = other(spec_of(), scheduler=asha, search=spec_of().to_dict()["search"])
    recorded, same, there = found.courses
    assert (recorded.epochs, same.epochs, there.extrapolated) == (180, 180, 0)
    assert same.makespan_s == pytest.approx(recorded.makespan_s)
    assert same.best == recorded.best
    assert same.reached_s is not None
    assert recorded.reached_s is not None
    assert math.isclose(same.reached_s, recorded.reached_s)
    truth = played(spec_of(scheduler=asha))
    assert there.epochs == sum(isinstance(record.event, Reported) for record in truth)
    assert there.epochs < 100
    assert there.makespan_s == pytest.approx(truth[-1].at - truth[1].at)


def test_more_workers_end_sooner_at_the_same_cost() -> None:
    spec = spec_of()
    few, many = other(spec, 2).courses[-1], other(spec, 10).courses[-1]
    assert few.train_s == pytest.approx(many.train_s)
    assert many.makespan_s < 0.4 * few.makespan_s


def test_what_lies_beyond_the_record_is_said_and_does_not_count_as_found() -> None:
    spec = spec_of(scheduler={"name": "asha", "max_epochs": 9})
    found = other(spec, scheduler={"name": "fifo", "max_epochs": 9})
    recorded, _, there = found.courses
    assert there.epochs == 180
    assert 0 < there.extrapolated == 180 - recorded.epochs
    assert there.best == recorded.best
    assert any(f"{there.extrapolated} of 180 epochs are not on record" in note for note in found.notes)


def test_extrapolation_goes_on_as_the_others_did() -> None:
    records = played(spec_of(scheduler={"name": "asha", "max_epochs": 9}))
    curves = read_curves(records)
    stopped = next(c for c in curves if c.last == 1)
    task = RecordedCurves(curves)
    made_up = [task.train(stopped.params, None, epoch)[1]["loss"] for epoch in range(1, 10)]
    assert made_up == pytest.approx([CURVES.metrics(stopped.params, epoch)["loss"] for epoch in range(1, 10)])
    assert (task.trained, task.extrapolated) == (9, 8)


def test_another_searcher_chooses_among_what_was_tried() -> None:
    spec = spec_of()
    found = other(spec, search={"name": "tpe", "n_startup": 3, "start_from_defaults": False})
    assert found.courses[-1].trials == 20
    assert found.courses[-1].best == found.courses[0].best
    assert any("replaced by the nearest of 20 recorded" in note for note in found.notes)


def test_a_scheduler_that_makes_up_configurations_cannot_be_played() -> None:
    with pytest.raises(LedgerError, match="pbt changes a trial's values as it goes"):
        other(spec_of(), scheduler={"name": "pbt", "max_epochs": 9})


def test_a_record_of_such_a_scheduler_that_changed_no_value_yet_is_played_without_it() -> None:
    spec = spec_of(scheduler={"name": "pbt", "max_epochs": 9, "population_size": 4})
    records = played(spec)
    place = next(i for i, r in enumerate(records) if isinstance(r.event, AttemptStarted) and r.event.attempt > 1)
    recorded = Recorded(records[:place], spec, {})
    assert not recorded.has_changing_params
    found = what_if(recorded, spec_of(scheduler={"name": "fifo", "max_epochs": 9}))
    assert [course.name for course in found.courses] == ["recorded", "random with fifo"]


def test_a_record_in_which_values_changed_is_played_with_a_warning() -> None:
    found = other(spec_of(scheduler={"name": "pbt", "max_epochs": 9}), scheduler={"name": "fifo", "max_epochs": 9})
    assert [course.name for course in found.courses] == ["recorded", "random with fifo"]
    assert "changed their values" in found.notes[0]
    assert "in their recorded order" in found.notes[1]


def test_of_a_race_first_fits_are_played_and_none_of_them_reaches_the_target() -> None:
    spec = spec_of(
        evaluation={"seeds": 2},
        metric={"name": "loss", "goal": "minimize", "target": 0.4},
        scheduler={"name": "adaptive", "max_epochs": 9},
    )
    lucky = Curves(lambda p, e: {"loss": CURVES.metrics(p, e)["loss"] - (p["seed"] == 0)})
    decider, race = build(spec, history_of(spec, ()), {}).decider, race_of(spec)
    assert race is not None
    objectives = decider.history.objectives
    simulation = Simulation(
        objectives, decider.searcher, decider.scheduler, lucky, max_trials=spec.budget.max_trials, race=race.plan
    )
    history = simulation.run()
    assert min(seen.losses[0] for trial in history.trials for seen in trial.curve.values()) < 0.4
    records = [Record(0, 1.0, SweepStarted("played", spec.to_dict())), *simulation.records]
    found = what_if(Recorded(records, spec, {}), spec_of(**{**spec.to_dict(), "search": {"name": "bayes"}}))
    assert [course.trials for course in found.courses] == [20, 20, 20]
    assert found.courses[0].train_s == pytest.approx(sum(t.seconds for t in history.trials if t.repeats is None))
    assert f"{history.repeats} further fits" in found.notes[0]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A data folder with one recorded sweep."""
    spec = spec_of(scheduler={"name": "asha", "max_epochs": 9})
    folder = tmp_path / "sweeps" / "played-20261123-0a1b2c"
    folder.mkdir(parents=True)
    write_job(folder, Job(folder.name, spec.to_dict()))
    Ledger(FolderStorage(folder), lambda: 0.0).append([record.event for record in played(spec)])
    return tmp_path


def tuneyard(home: Path, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["--data-dir", str(home), "replay", *arguments])


def test_the_command_says_that_the_record_holds(home: Path) -> None:
    done = tuneyard(home)
    assert done.exit_code == 0
    assert "all the same" in done.output
    assert json.loads(tuneyard(home, "--json").output)["difference"] is None


def test_the_command_compares_choices(home: Path) -> None:
    done = tuneyard(home, "played", "--scheduler", "asha,reduction_factor=2", "--search", "tpe,n_startup=5")
    assert done.exit_code == 0, done.output
    assert "tpe with asha (reduction_factor 2)" in done.output
    found = json.loads(tuneyard(home, "--workers", "2", "--json").output)
    assert [course["name"] for course in found["courses"]] == ["recorded", "the same, simulated", "random with asha"]
    assert found["workers"] == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--scheduler", "ascha"), "did you mean 'asha'?"),
        (("--scheduler", "asha,reduction=4"), "did you mean 'reduction_factor'?"),
        (("--search", "tpe,n_startup=0"), "at least 1"),
        (("--search", "tpe,n_startup="), "has no value"),
    ],
)
def test_a_wrong_choice_gives_the_faults_of_a_sweep_file(home: Path, arguments: tuple[str, ...], words: str) -> None:
    error = tuneyard(home, *arguments).exception
    assert isinstance(error, SpecError)
    assert words in str(error)


def test_a_sweep_that_has_not_begun_says_so(tmp_path: Path) -> None:
    write_job(tmp_path, Job("new", spec_of().to_dict()))
    with pytest.raises(LedgerError, match="nothing of this sweep is on record"):
        replay_folder(tmp_path)


@pytest.mark.parametrize("seed", range(8))
def test_a_record_holds_whose_driver_knew_that_the_space_was_used_up(seed: int) -> None:
    values = {f"p{i}": {"values": ["a", "b", "c", "d"]} for i in range(2)}
    data = parse_sweep(TEXT, file="sweep.yaml", root=Path()).to_dict()
    changed = {"parameters": values, "scheduler": {"name": "adaptive", "max_epochs": 9}, "seed": seed}
    spec = SweepSpec.from_dict({**data, **changed, "budget": {"max_concurrent_trials": 2}})
    decider = build(spec, History(spec.objectives), {}).decider
    luck = {f"{a}{b}": random.Random(f"{a}{b}{seed}").random() for a in "abcd" for b in "abcd"}
    curves = Curves(lambda p, e: {"loss": luck[p["p0"] + p["p1"]] + math.exp(-e / 4)})
    simulation = Simulation(spec.objectives, decider.searcher, decider.scheduler, curves, workers=2, max_trials=None)
    simulation.run()
    assert again(spec, simulation.records).difference is None
