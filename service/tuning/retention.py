"""Which checkpoints a sweep still needs: the bound on its disk use, as a pure function of its history."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from service.tuning.events import Checkpoint
    from service.tuning.history import History, Trial

RUNNERS_UP: Final = 5
SPARE: Final = 2  # a live trial keeps at least so many: where the newest is damaged, the one before it is used


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """How many trials keep the checkpoint of their best epoch, and how many newest ones a live trial keeps.

    `runners_up` more trials keep that of their best epoch for as long as the sweep goes. With `keeps_fits`, all fits
    of these trials do, where they have several: the winner's are tested.
    """

    save_sweep_best: int = 1
    save_trial_latest: int = 1
    runners_up: int = 0
    keeps_fits: bool = False


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
    leading = [number for number, _ in history.ranking()[: policy.save_sweep_best + policy.runners_up]]
    keepers = [history.trials[number] for number in leading]
    if policy.keeps_fits:
        keepers += [fit for number in leading for fit in history.fits_of(number)[1:]]
        keepers += [trial for trial in history.unfinished() if trial.repeats is not None]
    best = [best_checkpoint(trial, trial.best_epoch) for trial in keepers]
    needed.update(c.path for c in best if c is not None)
    held = {c.path: c for trial in history.trials for c in (*trial.superseded, *trial.checkpoints)}
    return [checkpoint for path, checkpoint in held.items() if path not in needed]


def best_checkpoint(trial: Trial, epoch: int) -> Checkpoint | None:
    """The checkpoint of `epoch`, or the newest one before it."""
    return max((c for c in trial.checkpoints if c.epoch <= epoch), key=lambda c: c.epoch, default=None)
