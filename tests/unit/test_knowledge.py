"""Earlier sweeps in the words of a new one: changed, added and removed parameters, and the file that holds them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from service.errors import LedgerError
from service.spec.objective import DIVERGED_LOSS, Constraint, Objective, Objectives, Observation
from service.spec.space import Choice, Constant, Integer, Params, Real, Space
from service.tuning.events import AttemptEnded, AttemptStarted, Event, Record, Reported, TrialEnded, TrialProposed
from service.tuning.knowledge import (
    DIGEST_FACT,
    MAX_TRIALS,
    EarlierSweep,
    EarlierTrial,
    decode,
    digest,
    earlier_trials,
    encode,
    read_past,
    translate,
    translate_params,
)
from service.tuning.sweep_folder import PAST_FILE

ACC = Objectives((Objective("acc", "maximize"),), (Constraint.parse("ms <= 20"),))
SPACE = Space(
    {
        "lr": Real(1e-4, 1e-1, log=True),
        "opt": Choice(("sgd", "adam")),
        "momentum": Real(0.0, 0.9, when={"opt": ("sgd",)}),
        "width": Integer(8, 64),
        "depth": Constant(2),
    }
)
FIT: dict[str, Any] = {"width": 32, "opt": "sgd", "other": 1}


@pytest.mark.parametrize(
    ("params", "fit", "expected"),
    [
        ({"lr": 0.01, "opt": "adam", "width": 16}, {}, {"lr": 0.01, "opt": "adam", "width": 16, "depth": 2}),
        ({"lr": 0.01, "gone": 3}, {}, {"lr": 0.01, "depth": 2}),  # removed there, added here without a value
        ({"lr": 0.01}, FIT, {"lr": 0.01, "opt": "sgd", "width": 32, "depth": 2}),  # added here: the config's value
        ({"lr": 0.01}, {"width": 128}, {"lr": 0.01, "depth": 2}),  # the config's value lies outside
        ({"lr": 0.5, "width": 4}, FIT, {"opt": "sgd", "depth": 2}),  # bounds changed: never the config's instead
        ({"opt": "rmsprop", "momentum": 0.5}, FIT, {"width": 32, "depth": 2}),  # no such value, so no child of it
        ({"opt": "adam", "momentum": 0.5}, {}, {"opt": "adam", "depth": 2}),  # the condition is not met here
        ({"momentum": 0.5}, {"opt": "sgd"}, {"opt": "sgd", "momentum": 0.5, "depth": 2}),
        ({"lr": 0.01, "depth": 3}, {}, {"lr": 0.01}),  # another constant now
        ({"width": 16.0, "lr": True}, {}, {"width": 16, "depth": 2}),
    ],
)
def test_params_are_kept_as_far_as_they_are_values_of_the_space(
    params: Params, fit: dict[str, Any], expected: Params
) -> None:
    found = translate_params(params, fit, SPACE)
    assert found == expected
    assert {name: type(value) for name, value in found.items()} == {n: type(v) for n, v in expected.items()}


def past_of(*trials: EarlierTrial, fit: dict[str, Any] | None = None) -> list[dict[int, Observation]]:
    past = translate(EarlierSweep("old", list(trials), fit or {}), SPACE, ACC)
    return [dict(trial.curve) for trial in past.trials]


def test_curves_are_losses_with_this_sweeps_goals_and_constraints_where_they_were_measured() -> None:
    curves = past_of(
        EarlierTrial({"lr": 0.01}, {1: {"acc": 0.5, "ms": 25.0}, 2: {"acc": 0.6}}),
        EarlierTrial({"lr": 0.02}, {1: {"loss": 0.5}}),  # it never showed the objective
        EarlierTrial({"gone": 1}, {1: {"acc": 0.5}}),  # it shares no parameter
        EarlierTrial({"lr": 0.03}, {}),
    )
    assert curves == [{1: Observation((-0.5,), 5.0), 2: Observation((-0.6,))}]


def test_broken_trials_teach_that_they_broke() -> None:
    worst = Observation((DIVERGED_LOSS,))
    never, later = (
        EarlierTrial({"lr": 0.1}, broke=True),
        EarlierTrial({"lr": 0.1}, {1: {"acc": 0.1}, 2: {"acc": 0.2}}, broke=True),
    )
    assert past_of(never, later) == [{1: worst}, {1: Observation((-0.1,)), 2: worst}]


def test_the_trials_that_trained_longest_are_kept_in_their_order() -> None:
    trials = [
        EarlierTrial({"lr": 0.01, "width": 8 + i % 50}, {e: {"acc": i} for e in range(1, 2 + i % 3)})
        for i in range(3 * MAX_TRIALS)
    ]
    past = translate(EarlierSweep("old", trials), SPACE, ACC)
    assert len(past.trials) == MAX_TRIALS
    assert {max(trial.curve) for trial in past.trials} == {3}
    numbers = [trial.curve[1].losses[0] for trial in past.trials]
    assert numbers == sorted(numbers, reverse=True)


def test_a_ledger_is_read_whatever_its_sweep_optimised() -> None:
    events: list[Event] = [
        TrialProposed(0, {"lr": 0.1}, "searcher", 0),
        AttemptStarted(0, 1, {"lr": 0.2}, None, "new"),
        Reported(0, 1, 1, {"loss": 1.0}, 1.0, None, "continue", ""),
        TrialProposed(1, {"lr": 0.3}, "searcher", 1),
        AttemptStarted(1, 1, {"lr": 0.3}, None, "new"),
        AttemptEnded(1, 1, "user", "broke"),
        TrialEnded(1, "failed", "broke"),
    ]
    found = earlier_trials(Record(i, float(i), event) for i, event in enumerate(events))
    assert found == [EarlierTrial({"lr": 0.2}, {1: {"loss": 1.0}}), EarlierTrial({"lr": 0.3}, broke=True)]


def test_the_file_says_what_was_put_into_it_and_is_the_one_the_sweep_began_with(tmp_path: Path) -> None:
    trials = [
        EarlierTrial({"lr": 0.01, "opt": "adam"}, {1: {"acc": 0.5, "ms": 30.0}, 3: {"acc": math.nan}}),
        EarlierTrial({"lr": 0.02}, broke=True),
    ]
    past = translate(EarlierSweep("old", trials, FIT), SPACE, ACC)
    data = encode([past, past])
    again = decode(data)
    assert encode(again) == data
    assert again[0].trials[0].params == past.trials[0].params
    assert again[0].trials[0].curve[1] == past.trials[0].curve[1]
    assert not again[0].trials[0].curve[3].is_finite
    json.loads(data, parse_constant=pytest.fail)  # nothing that is not JSON
    (tmp_path / PAST_FILE).write_bytes(data)
    assert read_past(tmp_path, {DIGEST_FACT: digest(data)}) == again
    assert read_past(tmp_path, {}) == ()
    (tmp_path / PAST_FILE).write_bytes(data.replace(b"0.01", b"0.02"))
    with pytest.raises(LedgerError, match="not what this sweep began with"):
        read_past(tmp_path, {DIGEST_FACT: digest(data)})
    (tmp_path / PAST_FILE).unlink()
    with pytest.raises(LedgerError, match="restore it"):
        read_past(tmp_path, {DIGEST_FACT: digest(data)})
