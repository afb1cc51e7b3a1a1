"""Which checkpoints a sweep still needs: the bound on its disk use, as a pure function of its history."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from service.tuning.events import Checkpoint
from service.tuning.history import History, Trial

RUNNERS_UP: Final = 5
SPARE: Final = 2  # a live trial keeps at least so many: where the newest is damaged, the one before it is used


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """How many trials keep the checkpoint of their best epoch, and how many newest ones a live trial keeps.

    `runners_up` more trials keep that of their best epoch for as long as the sweep goes.
    """

    save_sweep_best: int = 1
    save_trial_latest: int = 1
    runners_up: int = 0


def runners_up(*, is_raced: bool, is_single: bool) -> int:
    """How many there are: none where a trial that is over and not the best never becomes so.

    Further folds and seeds change the means, and a new point of the Pareto front may change the compromise.
    """
    return RUNNERS_UP if is_raced or not is_single else 0


def expendable(history: History, policy: RetentionPolicy, in_use: frozenset[str] = frozenset()) -> list[Checkpoint]:
    """Checkpoints that nothing needs any more while the sweep goes, given the paths that running attempts started from.

    A live trial keeps its newest `save_trial_latest` ones, at least two. The best
    `save_sweep_best` trials and the `runners_up` keep the one of their best epoch, or the nearest before it.
    """
    holders = [trial for trial in history.trials if trial.checkpoints or trial.superseded]
    if not holders:
        return []
    needed = set(in_use)
    for trial in holders:
        if not trial.status.is_over:
            newest = sorted(trial.checkpoints, key=lambda c: c.epoch)[-max(SPARE, policy.save_trial_latest) :]
            needed.update(c.path for c in newest)
    for number, epoch in history.ranking()[: policy.save_sweep_best + policy.runners_up]:
        best = best_checkpoint(history.trials[number], epoch)
        if best is not None:
            needed.add(best.path)
    held = {c.path: c for trial in history.trials for c in (*trial.superseded, *trial.checkpoints)}
    return [checkpoint for path, checkpoint in held.items() if path not in needed]


def worth_saving_below(history: History, keep: int) -> float | None:
    """The loss that an epoch has to beat to be among the `keep` best that are kept; None where only rungs are saved."""
    if not history.objectives.is_single or keep == 0:
        return None
    ranking = history.ranking()
    if len(ranking) < keep:
        return math.inf
    number, epoch = ranking[keep - 1]
    return history.trials[number].curve[epoch].losses[0]


def best_checkpoint(trial: Trial, epoch: int) -> Checkpoint | None:
    """The checkpoint of `epoch`, or the newest one before it."""
    return max((c for c in trial.checkpoints if c.epoch <= epoch), key=lambda c: c.epoch, default=None)
