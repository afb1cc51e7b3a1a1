"""How trials that were trained for different numbers of epochs are put in one order."""

from __future__ import annotations

import math

from service.spec.objective import Objective, Objectives
from service.spec.space import Real, Space
from service.tuning.events import AttemptEnded, AttemptStarted, Event, Record, Reported, TrialEnded, TrialProposed
from service.tuning.evidence import EvidenceReader
from service.tuning.history import History

ONE = Objectives((Objective("loss"),))
SPACE = Space({"number": Real(0, 100)})


class Sweep:
    """Trials whose only parameter is their number, so that evidence shows which is where."""

    def __init__(self) -> None:
        self.history = History(ONE)
        self.reader = EvidenceReader(SPACE, ONE)

    def add(self, *events: Event) -> None:
        for event in events:
            self.history.apply(Record(self.history.sequence, 1.0, event))

    def trial(self, curve: dict[int, float], ending: str = "stopped") -> None:
        number = len(self.history.trials)
        params = {"number": float(number)}
        self.add(TrialProposed(number, params, "searcher", number), AttemptStarted(number, 1, params, None, "new"))
        for epoch, loss in curve.items():
            self.add(Reported(number, 1, epoch, {"loss": loss}, 1.0, None, "continue", ""))
        if ending:
            self.add(AttemptEnded(number, 1, ending), TrialEnded(number, ending))  # type: ignore[arg-type]  # an Ending

    def order(self) -> list[int]:
        """Trial numbers, best first, then the broken ones."""
        cached = self.reader.read(self.history).ranked
        assert (cached == EvidenceReader(SPACE, ONE).read(self.history).ranked).all(), "the cache changed the answer"
        return [round(100 * row[0]) for row in cached]


def test_early_values_are_never_compared_with_later_ones() -> None:
    sweep = Sweep()
    sweep.trial({1: 5.0, 9: 1.0}, "completed")
    sweep.trial({1: 4.0, 9: 2.0}, "completed")
    sweep.trial({1: 6.0})
    sweep.trial({1: 3.0})
    assert sweep.order() == [3, 0, 1, 2], "at epoch 1 the order is 3 1 0 2; of 0 and 1, epoch 9 says 0 is better"


def test_first_trial_to_come_far_is_not_taken_for_the_best() -> None:
    sweep = Sweep()
    sweep.trial({1: 9.0, 3: 8.0, 9: 7.0}, "completed")
    for loss in (5.0, 4.0, 6.0):
        sweep.trial({1: loss})
    assert sweep.order() == [2, 1, 3, 0]


def test_trial_counts_with_its_best_epoch_so_far() -> None:
    sweep = Sweep()
    sweep.trial({1: 3.0, 2: 1.0, 3: 9.0}, "completed")
    sweep.trial({1: 3.0, 2: 2.5, 3: 2.0}, "completed")
    assert sweep.order() == [0, 1]


def test_trial_that_ended_by_itself_is_compared_to_the_end() -> None:
    sweep = Sweep()
    sweep.trial({1: 5.0, 2: 1.5}, "completed")
    sweep.trial({1: 4.0, 2: 2.0, 9: 1.9}, "completed")
    sweep.trial({1: 3.0, 2: 2.5, 9: 1.0}, "completed")
    assert sweep.order() == [2, 0, 1]


def test_broken_trials_come_last_once_and_running_ones_count_as_far_as_they_are() -> None:
    sweep = Sweep()
    sweep.trial({1: 1.0, 2: 1e30}, "diverged")
    sweep.trial({1: 0.5}, "failed")
    sweep.trial({1: 9.0})
    sweep.trial({1: 8.0}, "")
    sweep.trial({}, "")
    evidence = sweep.reader.read(sweep.history)
    assert sweep.order() == [3, 2, 0, 1]
    assert evidence.broken == 2
    assert evidence.pending.tolist() == [[0.04]]


def test_growing_history_is_read_as_if_anew() -> None:
    sweep = Sweep()
    for i in range(40):
        far = {3: 9.0 - math.cos(i), 9: math.sin(3 * i)} if i % 3 == 0 else {}
        sweep.trial({1: math.sin(i), **far}, ("stopped", "completed", "failed", "")[i % 4])
        assert sorted(sweep.order()) == list(range(i + 1))
    assert len(sweep.reader.read(History(ONE)).ranked) == 0, "another history is not mixed up with the last one"
