"""What each scheduler decides by its own rule, on sweeps small enough to work out by hand."""

from __future__ import annotations

import math
import statistics
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from service import plugins
from service.spec.space import Params, Space
from service.tuning.events import AttemptStarted, Reported
from service.tuning.history import Status
from service.tuning.schedulers.pbt import Options as PbtOptions
from service.tuning.schedulers.pbt import mutate
from tests.scheduling import SPACE, built, shuffled, simulated
from tests.simulator import Curves
from tests.spaces import spaces

CALM = settings(deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
LEVEL = Curves(lambda params, epoch: {"loss": params["q"] + 0 * epoch})  # the same loss at every epoch


def test_powers_have_their_top_rung() -> None:
    for name in ("asha", "hyperband"):
        module = plugins.find("schedulers", name)
        assert module.rungs(module.Options(max_epochs=3**5)) == (1, 3, 9, 27, 81, 243)
        assert module.rungs(module.Options(max_epochs=1000, reduction_factor=10)) == (1, 10, 100, 1000)
        assert module.rungs(module.Options(max_epochs=30, grace_epochs=4, reduction_factor=2)) == (4, 8, 16, 30)


def actions(name: str, options: dict[str, Any], losses: list[float], rung: int = 1) -> list[str]:
    """What is decided on trials that come to `rung` one after the other with these losses."""
    simulation = simulated(built(name, options), losses, task=LEVEL, workers=1)
    simulation.run()
    reports = [r.event for r in simulation.records if isinstance(r.event, Reported) and r.event.epoch == rung]
    return [report.action for report in sorted(reports, key=lambda report: report.trial)]


def test_asha_stops_by_the_whole_rung() -> None:
    assert actions("asha", {}, [5, 6, 4, 4.5, 3]) == ["continue", "stop", "continue", "stop", "continue"]
    assert actions("asha", {}, [5, 4, 3, 2, 1, 1.5]) == [*["continue"] * 6], "sixth of six, but among the best two"
    assert actions("asha", {}, [5, 5, 5, 5]) == ["continue"] * 4, "what ties with the last to go on goes on"
    assert actions("asha", {"reduction_factor": 2}, [1, 2, 3, 1.5]) == ["continue", "stop", "stop", "continue"]


def test_asha_reads_the_first_report_at_or_after_a_rung() -> None:
    simulation = simulated(built("asha", {}), [1, 2, 3], task=LEVEL, workers=1, validate_every=5)
    history = simulation.run()
    assert [t.epoch for t in history.trials] == [27, 5, 5]


def test_asha_brackets_start_later_and_share_trials_by_hyperbands_sizes() -> None:
    scheduler: Any = built("asha", {"brackets": 3})
    shares = [sum(scheduler._bracket(n) == b for n in range(1000)) for b in range(3)]
    assert shares[0] > shares[1] > shares[2] > 100
    other: Any = built("asha", {"brackets": 3}, seed=1)
    assert [other._bracket(n) for n in range(50)] != [scheduler._bracket(n) for n in range(50)]
    simulation = simulated(scheduler, shuffled(40))
    for trial in simulation.run().trials:
        assert trial.epoch >= scheduler.rungs[scheduler._bracket(trial.number)]


def test_promotion_pauses_at_the_rung_and_promotes_when_others_prove_worse() -> None:
    simulation = simulated(built("asha", {"variant": "promotion"}), [1, 2, 3, 4, 5], task=LEVEL, workers=1)
    history = simulation.run()
    first = [r.event for r in simulation.records if isinstance(r.event, Reported) and r.event.epoch == 1]
    assert [(e.trial, e.action) for e in first] == [(i, "pause") for i in range(5)]
    assert [t.epoch for t in history.trials] == [27, 1, 1, 1, 1]
    order = [r.event.trial for r in simulation.records if isinstance(r.event, Reported)]
    assert order.index(3) > order.index(0) + 3, "trial 0 went on once two others were worse"


def test_promotion_replaces_a_promoted_trial_that_breaks() -> None:
    def metrics(params: Params, epoch: int) -> dict[str, float]:
        return {"loss": math.nan if params["q"] < 2 and epoch > 1 else params["q"]}

    simulation = simulated(built("asha", {"variant": "promotion"}), [1, 2, 3], task=Curves(metrics), workers=1)
    history = simulation.run()
    assert [t.status.value for t in history.trials] == ["diverged", "completed", "stopped"]


def test_hyperband_waits_for_its_bracket_then_keeps_the_best() -> None:
    simulation = simulated(built("hyperband", {}), shuffled(49), workers=8)
    history = simulation.run()
    epochs = [sorted((t.epoch for t in history.trials[a:b]), reverse=True) for a, b in ((0, 27), (27, 39), (39, 45))]
    assert epochs[0] == [27, *[9] * 2, *[3] * 6, *[1] * 18]
    assert epochs[1] == [27, *[9] * 3, *[3] * 8]
    assert epochs[2] == [27, 27, *[9] * 4]
    assert [t.epoch for t in history.trials[45:]] == [27] * 4
    for members in (history.trials[:27], history.trials[27:39], history.trials[39:45]):
        ranked = sorted(members, key=lambda t: t.params["q"])
        assert [t.epoch for t in ranked] == sorted((t.epoch for t in members), reverse=True)


def test_median_needs_enough_others_and_grace() -> None:
    options = {"min_trials": 3, "grace_epochs": 4}
    history = simulated(built("median", options), [1, 2, 3, 9, 0, 8], task=LEVEL, workers=1).run()
    assert [t.epoch for t in history.trials] == [27, 27, 27, 4, 27, 4]


class Improving:
    """A loss that falls by the momentary `q` each epoch: what a trial gained stays in its state."""

    def train(self, params: Params, state: Any, epoch: int) -> tuple[float, dict[str, float], float]:  # noqa: ANN401, ARG002  # the seam's signature
        state = (state or 10.0) - params["q"]
        return state, {"loss": state}, 1.0


def test_pbt_goes_on_from_a_better_trials_checkpoint_with_mutated_params() -> None:
    scheduler = built("pbt", {"interval_epochs": 3})
    simulation = simulated(scheduler, [i / 12 for i in range(12)], workers=4, task=Improving())
    history = simulation.run()
    plain = simulated(built("fifo", {}), [i / 12 for i in range(12)], workers=4, task=Improving()).run()
    losses = [min(o.losses[0] for o in t.curve.values()) for t in history.trials]
    plain_losses = [min(o.losses[0] for o in t.curve.values()) for t in plain.trials]
    assert min(losses) < min(plain_losses)
    assert statistics.fmean(losses) < statistics.fmean(plain_losses) - 2
    begun = [r.event for r in simulation.records if isinstance(r.event, AttemptStarted)]
    moved = [event for event in begun if "goes on from trial" in event.reason]
    assert len(moved) >= 5
    for event in moved:
        assert event.checkpoint is not None
        assert event.checkpoint.path.split("/")[1] != str(event.trial)
        assert SPACE.contains(event.params)
    assert all(t.status is Status.COMPLETED for t in history.trials)


def test_pbt_advances_the_population_together() -> None:
    simulation = simulated(built("pbt", {"interval_epochs": 9}), shuffled(8), workers=2)
    simulation.run()
    reports = [r.event.epoch for r in simulation.records if isinstance(r.event, Reported) and r.event.epoch in (9, 18)]
    assert sorted(reports[:9])[:8] == [9] * 8


def test_pbt_mutates_within_the_space() -> None:
    @settings(CALM, max_examples=150)
    @given(spaces(), st.integers(0, 2**31), st.sampled_from([0.0, 0.3]))
    def check(space: Space, seed: int, resample: float) -> None:
        rng = np.random.default_rng(seed)
        params = space.sample(rng)
        for _ in range(4):
            params = mutate(space, params, PbtOptions(max_epochs=9, resample_probability=resample), rng)
            assert space.problems(params) == []

    check()


def test_wrong_options_are_refused_with_what_is_allowed() -> None:
    for name, options, words in (
        ("asha", {"grace_epochs": 30}, "at most max_epochs"),
        ("asha", {"brackets": 5}, "number of rungs"),
        ("hyperband", {"grace_epochs": 30}, "at most max_epochs"),
        ("median", {"grace_epochs": 30}, "at most max_epochs"),
        ("pbt", {"perturbation_factors": (1.2, 0.8)}, "one number between 0 and 1"),
    ):
        with pytest.raises(ValidationError, match=words):
            built(name, options)
