"""A sweep goes on beyond its first number of trials, while it runs or after its end; nothing is lost or told twice."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from service.spec.sweep_spec import parse_sweep
from service.tuning.control import Control, write_control
from service.tuning.events import SweepEnded, SweepExtended, TrialProposed
from service.tuning.ledger import read_ledger
from service.tuning.replay import recorded_spec, replay_folder
from service.tuning.sweep_folder import read_job
from tests.simulation.checks import broken_promises
from tests.simulation.mlflow import StoredRun
from tests.simulation.world import Machine

TEXT = """
name: longer
seed: 5
fit: {trainer: {max_epochs: 9}}
metric: {name: loss, goal: minimize}
parameters: {model.x: {min: 0.01, max: 10.0, distribution: log_uniform}, model.y: {min: 0, max: 7}}
search: {name: tpe, n_startup: 3, start_from_defaults: false}
scheduler: {name: asha, max_epochs: 9}
budget: {max_trials: 4}
tracking: {uri: "http://mlflow"}
"""
OTHERS = (
    {"search": {"name": "bayes", "start_from_defaults": False}, "scheduler": {"name": "adaptive", "max_epochs": 9}},
    {"scheduler": {"name": "asha", "variant": "promotion", "max_epochs": 9}},
    {"scheduler": {"name": "pbt", "max_epochs": 9, "interval_epochs": 3}},
    {"evaluation": {"folds": 3, "final_seeds": 1, "finalists": 2}},
    {"evaluation": {"test": True}},
    {"evaluation": {"folds": 3, "test": True}},
)


def machine_of(folder: Path, **sections: Any) -> Machine:  # noqa: ANN401  # sections of a sweep file
    spec = parse_sweep(TEXT, file="sweep.yaml", root=folder)
    spec = type(spec).from_dict({**spec.to_dict(), **sections})
    return Machine(folder / "sweeps" / "longer", spec, workers=2, seed=1, wrong={})


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return machine_of(tmp_path)


def extend(machine: Machine, max_trials: int) -> None:
    write_control(machine.folder, Control(max_trials=max_trials))


def events(machine: Machine, *kinds: type) -> list[Any]:
    return [r.event for r in read_ledger(machine.folder) if isinstance(r.event, kinds)]


def living(machine: Machine) -> list[StoredRun]:
    return [run for run in machine.server.runs.values() if not run.is_deleted]


def parent(machine: Machine) -> StoredRun:
    (run,) = [run for run in living(machine) if run.tags["tuneyard.kind"] == "sweep"]
    return run


@pytest.mark.parametrize(
    "sections", [{}, *OTHERS], ids=["asha", "adaptive", "promotion", "pbt", "folds", "test", "folds-test"]
)
def test_a_sweep_that_is_over_goes_on(tmp_path: Path, sections: dict[str, Any]) -> None:
    machine = machine_of(tmp_path, **sections)
    machine.run()
    first = read_ledger(machine.folder)
    assert parent(machine).status == "FINISHED"
    before = {name: set(run.points) for name, run in machine.server.runs.items()}
    extend(machine, 9)
    machine.go_on()
    records = read_ledger(machine.folder)
    assert records[: len(first)] == first
    assert len([e for e in events(machine, TrialProposed) if e.repeats is None]) == 9
    assert [type(e) for e in events(machine, SweepEnded, SweepExtended)] == [SweepEnded, SweepExtended, SweepEnded]
    assert broken_promises(machine) == []
    assert all(points <= machine.server.runs[name].points for name, points in before.items())
    assert (parent(machine).status, parent(machine).tags["tuneyard.state"]) == ("FINISHED", "completed")
    assert parent(machine).tags["tuneyard.max_trials"] == "9"
    assert len({p.value for p in parent(machine).points if p.key == "held_out_loss"}) == len(
        [p for p in parent(machine).points if p.key == "held_out_loss"]
    )
    assert replay_folder(machine.folder).difference is None
    assert recorded_spec(records).budget.max_trials == 9
    assert read_job(machine.folder).spec["budget"]["max_trials"] == 9


def test_an_extension_counts_once_whoever_takes_the_sweep_over(machine: Machine) -> None:
    machine.run()
    extend(machine, 7)
    for at in (2.0, 9.0, 15.0):
        machine.at(at, lambda: machine.lose_driver("killed") if machine.driver else None)
    machine.arm_tracker(4, after=True)
    machine.go_on()
    assert events(machine, SweepExtended) == [SweepExtended(7)]
    assert broken_promises(machine) == []
    assert replay_folder(machine.folder).difference is None


def test_a_running_sweep_is_extended_too(machine: Machine) -> None:
    def ask() -> None:
        if machine.driver is not None:
            extend(machine, 6)
            machine.driver.steering.obey()
            machine.driver.steering.obey()

    machine.at(5.0, ask)
    machine.run()
    assert events(machine, SweepExtended) == [SweepExtended(6)]
    assert len(events(machine, TrialProposed)) == 6
    assert len(events(machine, SweepEnded)) == 1
    assert broken_promises(machine) == []
    assert replay_folder(machine.folder).difference is None


@pytest.mark.parametrize("max_trials", [1, 4])
def test_no_more_than_before_changes_nothing(machine: Machine, max_trials: int) -> None:
    machine.run()
    first = read_ledger(machine.folder)
    extend(machine, max_trials)
    machine.go_on()
    assert read_ledger(machine.folder) == first
    assert read_job(machine.folder).spec["budget"]["max_trials"] == 4


def test_an_extension_that_comes_before_the_sweep_begins_is_its_budget(machine: Machine) -> None:
    machine.at(0.0, lambda: extend(machine, 6))
    machine.run()
    assert events(machine, SweepExtended) == []
    assert len(events(machine, TrialProposed)) == 6
    assert recorded_spec(read_ledger(machine.folder)).budget.max_trials == 6


def test_fewer_trials_at_once_save_and_go_on_later(machine: Machine) -> None:
    most = Counter[int]()

    def ask(limit: int | None) -> None:
        if machine.driver is not None:
            write_control(machine.folder, Control(max_concurrent_trials=limit))
            machine.driver.steering.obey()
            machine.fill()

    machine.at(4.0, lambda: ask(1))
    machine.at(12.0, lambda: most.update([len(machine.running)]))
    machine.at(20.0, lambda: ask(2))
    machine.at(21.0, lambda: most.update([len(machine.running)]))
    machine.run()
    assert dict(most) == {1: 1, 2: 1}
    assert "fewer trials run at once from here on" in {
        r.event.cause for r in read_ledger(machine.folder) if hasattr(r.event, "cause")
    }
    assert broken_promises(machine) == []
    assert [p.name for p in machine.folder.glob("drain*")] == []
    assert replay_folder(machine.folder).difference is None
