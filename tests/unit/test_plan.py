"""Plans: the figures are those that the sweep file decides, and none that it does not."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.backend import Node
from cluster.kuberay import Group
from service import plugins
from service.spec.sweep_spec import parse_sweep
from service.sweeps.plan import Plan, plan
from service.sweeps.plan_nodes import node_lines
from service.views.plan import plan_lines

SWEEP = """\
name: planned
fit: {model: {lr: 0.5}, trainer: {max_epochs: 27}}
metric: {name: val_loss, goal: minimize}
parameters: {model.lr: {min: 0.1, max: 1.0}}
"""


def planned(more: str = "", *overrides: str, seconds_per_epoch: float | None = None) -> Plan:
    spec = parse_sweep(SWEEP + more, file="s.yaml", root=Path(), overrides=overrides)
    return plan(spec, seconds_per_epoch=seconds_per_epoch)


def test_without_early_stopping_every_trial_trains_to_the_end() -> None:
    got = planned("scheduler: {name: fifo}\nbudget: {max_trials: 8, max_concurrent_trials: 2}\n", seconds_per_epoch=10)
    assert (got.trials, got.rungs, got.reach) == (8, (27,), (8,))
    assert got.worst_epochs == got.expected_epochs == 8 * 27
    assert got.worst_cpu_hours == pytest.approx(8 * 27 * 10 / 3600)
    assert got.worst_gpu_hours == 0
    assert got.expected_wall_clock_s == pytest.approx(8 * 27 * 10 / 2)
    assert (got.checkpoints_without_pauses, got.checkpoints_most) == (1 + 2 * 2, 1 + 8 * 2)


def test_early_stopping_spends_less_than_the_worst_case() -> None:
    options = "{name: asha, grace_epochs: 1, reduction_factor: 3}"
    got = planned(f"scheduler: {options}\nbudget: {{max_trials: 81}}\n")
    assert got.rungs == (1, 3, 9, 27)
    assert got.reach is not None
    assert got.reach[0] == 81
    assert list(got.reach) == sorted(got.reach, reverse=True)
    assert got.reach[-1] < 10
    steps = (1, 2, 6, 18)
    assert got.expected_epochs == sum(step * count for step, count in zip(steps, got.reach, strict=True))
    assert got.worst_epochs == 81 * 27


@pytest.mark.parametrize("name", plugins.names("schedulers"))
def test_every_scheduler_can_be_planned(name: str) -> None:
    got = planned(f"scheduler: {{name: {name}}}\nbudget: {{max_trials: 30}}\n", seconds_per_epoch=1)
    assert got.rungs[-1] == 27
    assert got.reach is not None
    assert len(got.reach) == len(got.rungs)
    assert all(0 <= count <= 30 for count in got.reach)
    assert got.expected_epochs is not None
    assert got.worst_epochs is not None
    assert got.expected_epochs <= got.worst_epochs
    assert json.loads(json.dumps(got.to_dict()))["rungs"] == list(got.rungs)


def test_what_only_time_decides_is_left_open() -> None:
    got = planned("budget: {wall_clock: 1h, gpu_hours: 3}\nresources: {gpu: 1}\n", seconds_per_epoch=1)
    assert (got.trials, got.reach, got.worst_epochs, got.checkpoints_most) == (None, None, None, None)
    assert (got.expected_wall_clock_s, got.worst_gpu_hours) == (3600, 3)
    assert any("no number of trials" in note for note in got.notes)


def test_a_grid_ends_after_its_last_point() -> None:
    got = planned("search: {name: grid, points: 5, start_from_defaults: false}\nbudget: {max_trials: 100}\n")
    assert got.trials == 5
    assert any("used up after 5 of the 100" in note for note in got.notes)
    assert planned("search: {name: grid, points: 5}\nbudget: {max_trials: 3}\n").trials == 3


def test_hours_need_the_seconds_of_an_epoch_and_keep_to_the_budget() -> None:
    text = "budget: {max_trials: 100, cpu_hours: 2}\nresources: {cpu: 4}\nscheduler: {name: fifo}\n"
    assert planned(text).worst_cpu_hours == 2
    assert planned(text).expected_cpu_hours is None, "a limit says nothing of what is to be expected"
    assert planned(text, seconds_per_epoch=1).worst_cpu_hours == 2
    assert planned(text, seconds_per_epoch=0.1).worst_cpu_hours == pytest.approx(100 * 27 * 0.1 * 4 / 3600)
    assert planned("budget: {max_trials: 9}\n").expected_cpu_hours is None


def test_a_default_outside_its_range_is_noted() -> None:
    more = "budget: {max_trials: 9}\n"
    assert not any("your own" in note for note in planned(more).notes)
    assert any("your own model.lr is 5" in note for note in planned(more, "fit.model.lr=5").notes)


def test_a_million_trials_are_planned_at_once() -> None:
    started = time.process_time()
    got = planned("budget: {max_trials: 1000000}\n")
    assert time.process_time() - started < 1
    assert got.reach is not None
    assert got.reach[0] == 1_000_000


def test_folds_and_seeds_are_counted_as_fits() -> None:
    more = "budget: {max_trials: 10}\nscheduler: {name: fifo}\n"
    assert planned(more).fits is None
    got = planned(more + "evaluation: {folds: 5, seeds: 2, final_seeds: 1, finalists: 3}\n")
    assert got.fits is not None
    assert (got.trials, got.fits.each, got.fits.final) == (10, 10, 15)
    assert got.fits.most == 10 * 10 + 15
    assert got.worst_epochs == 115 * 27
    assert got.fits.expected is not None
    assert 10 < got.fits.expected < 115
    assert got.expected_epochs == got.fits.expected * 27
    assert any(line.startswith("fits         at most 115, expected ") for line in plan_lines(got))
    open_ended = planned("budget: {wall_clock: 1h}\nevaluation: {folds: 2}\n")
    assert open_ended.fits is not None
    assert (open_ended.fits.most, open_ended.fits.expected) == (None, None)


BIG = "8 CPUs, 1 GPU, 32 GiB"
CPU, GPU = Group("cpu", 0, 20, Node(4.0, 0.0, 16.0 * 2**30)), Group("gpu", 0, 2, Node(8.0, 1.0, 32.0 * 2**30))


@pytest.mark.parametrize(
    ("more", "groups", "said"),
    [
        ("resources: {cpu: 2}", [CPU, GPU], ["5 of at most 20 cpu (4 CPUs, 16 GiB), for 10 trials"]),
        ("resources: {cpu: 2, memory: 10GiB}", [CPU], ["10 of at most 20 cpu (4 CPUs, 16 GiB), for 10 trials"]),
        (
            "resources: {cpu: 1, gpu: 0.3}",
            [CPU, GPU],
            [
                f"2 of at most 2 gpu ({BIG}), for 6 trials",
                "4 of 10 trials at a time have no node: the groups are at their most",
            ],
        ),
        ("resources: {cpu: 16}", [CPU, GPU], [f"none: one trial asks for 16 CPUs, and the largest node has {BIG}"]),
        (
            "resources: {cpu: 2, gpu: 1}",
            [],
            ["10 trials at a time ask for 2 CPUs, 1 GPU each, 20 CPUs, 10 GPUs together"],
        ),
    ],
)
def test_a_plan_says_which_nodes_a_sweep_wants(more: str, groups: list[Group], said: list[str]) -> None:
    text = f"{SWEEP}budget: {{max_trials: 40, max_concurrent_trials: 10}}\n{more}\n"
    assert list(node_lines(parse_sweep(text, file="s.yaml", root=Path()), 40, groups)) == said


def test_without_an_end_every_group_is_at_its_most() -> None:
    spec = parse_sweep(f"{SWEEP}budget: {{wall_clock: 1h}}\n", file="s.yaml", root=Path())
    assert node_lines(spec, None, [CPU, GPU]) == (
        "20 of at most 20 cpu (4 CPUs, 16 GiB), for 80 trials",
        "2 of at most 2 gpu (8 CPUs, 1 GPU, 32 GiB), for 16 trials",
    )
    assert node_lines(spec, None, []) == ("as many as there are; one trial asks for 1 CPU",)
    lines = plan_lines(replace(plan(spec), nodes=node_lines(spec, None, [CPU])))
    assert "nodes        20 of at most 20 cpu (4 CPUs, 16 GiB), for 80 trials" in lines
