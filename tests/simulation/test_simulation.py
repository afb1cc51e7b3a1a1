"""Whole sweeps in one thread, with faults from their seeds: the promise holds, and the checks can fail."""

from __future__ import annotations

import itertools
import logging
import re

import pytest

from tests.simulation.defects import DEFECTS, planted
from tests.simulation.faults import FAULTS
from tests.simulation.run import TESTED_SEEDS, play_all, play_each

MOST_SEEDS = 150  # until a defect must have shown


@pytest.mark.slow
def test_a_thousand_sweeps_keep_the_promise_whatever_breaks() -> None:
    plays = list(play_all(range(TESTED_SEEDS)))
    red = [f"python -m tests.simulation.run --seed {p.seed} --trace: {p.problems[0]}" for p in plays if p.problems]
    assert red == []
    assert min(play.events for play in plays) >= 200
    assert all(3 <= len(play.faults) <= 10 for play in plays)
    assert {name for play in plays for name in play.faults} == set(FAULTS)


def test_a_seed_replays_exactly() -> None:
    first, second = (next(iter(play_each([7]))) for _ in range(2))
    assert first.trace == second.trace
    assert len(first.trace) > 20


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_deliberate_defect_turns_it_red(defect: str) -> None:
    logging.disable()
    try:
        with planted(defect):
            red = next((play for play in play_each(range(MOST_SEEDS)) if play.problems), None)
    finally:
        logging.disable(logging.NOTSET)
    assert red is not None
    assert not re.search(r"^(TypeError|AttributeError|NameError): ", "\n".join(red.problems), re.MULTILINE)


def test_every_kind_of_fault_has_a_sentence() -> None:
    assert all(fault.__doc__ for fault in itertools.chain(FAULTS.values(), DEFECTS.values()))
