"""How well early epochs foretold the final order, and what that means for `grace_epochs`; pure.

Two things per early epoch: how well its order agrees with a later one, mended for the trials that were stopped in
between, which gives the chance that the later best is stopped there; and whether the sweep's own winner would have gone
on. Advice needs both, from enough trials, and gives its figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from service.tuning.history import History, Trial
from service.tuning.rank_agreement import FEWEST, Agreement, agreement, chance_of_missing
from service.tuning.rungs import ladder, standings, value_at

FEWEST_TRIALS: Final = 20  # at an epoch, before it gives reason to advise
FEWEST_AGAIN: Final = 10  # of them that were seen at the later epoch
_MOST_LOOKS: Final = 8
_BEST: Final = 5
_SAFE, _RISKY = 0.1, 0.2  # chances of stopping the later best
_LEAST_SHOWN: Final = 0.01
_USUAL_FACTOR: Final = 3


@dataclass(frozen=True, slots=True)
class Risk:
    """The chance that the best of `until` is not among those that go on, with its 90 % interval."""

    until: int
    chance: float
    low: float
    high: float
    trials: int  # seen at both epochs


@dataclass(frozen=True, slots=True)
class Look:
    """What one early epoch would have said."""

    epoch: int
    is_rung: bool
    trials: int  # that came this far
    kept: int  # how many of them go on where one in `factor` does
    winner_place: int | None  # 1 is best; None where the winner has no value here
    best: int  # of the best at the end, how many have a value here
    best_kept: int  # how many of those stood among `kept`
    next: Agreement | None
    last: Agreement | None
    risk: Risk | None

    @property
    def keeps_winner(self) -> bool:
        """Whether the later winner stood among those that go on."""
        return self.winner_place is not None and self.winner_place <= self.kept


@dataclass(frozen=True, slots=True)
class EarlyRungs:
    """One look per early epoch, the earliest first, and what follows from them."""

    factor: int
    winner: int | None
    last: int  # the epoch that stands for the end: the last that enough trials reached
    looks: tuple[Look, ...]
    advice: str  # empty where the trials do not say enough
    no_advice: str  # why, then


def early_rungs(
    history: History, rungs: Sequence[int], *, factor: int = _USUAL_FACTOR, has_grace: bool = True
) -> EarlyRungs:
    """Judge the early epochs of a sweep whose scheduler compares trials at `rungs` and keeps one in `factor`.

    `has_grace`: whether `grace_epochs` is an option of that scheduler; without it, advice is given only where nothing
    is stopped early at all.
    """
    epochs = epochs_to_compare(rungs, factor)
    last = max((e for e in epochs if sum(_has(t, e) for t in history.trials) >= FEWEST), default=epochs[-1])
    early = [epoch for epoch in epochs if epoch < last]
    judge = _Judge(history, tuple(rungs), (*early, last), factor)
    looks = [look for look in map(judge.look, early) if look.trials]
    advice, no_advice = _advice(looks, rungs, has_grace=has_grace) or ("", _why_unknown(history, epochs))
    return EarlyRungs(factor, judge.winner, last, tuple(looks), advice, no_advice)


def _why_unknown(history: History, epochs: Sequence[int]) -> str:
    """Why there is nothing to judge early stopping by."""
    if len(epochs) == 1:
        return "trials of one epoch cannot be stopped early"
    first, again = (sum(_has(t, epoch) for t in history.trials) for epoch in epochs[:2])
    if first >= FEWEST_TRIALS and again >= FEWEST_AGAIN:
        return "too little to advise on early stopping: the results of the trials do not put them in an order yet"
    return (
        f"too few trials to advise on early stopping: {first} came to epoch {epochs[0]} and {again} of them to epoch "
        f"{epochs[1]}; {FEWEST_TRIALS} and {FEWEST_AGAIN} are needed"
    )


class _Judge:
    """Looks at one early epoch after the other."""

    def __init__(self, history: History, rungs: tuple[int, ...], epochs: tuple[int, ...], factor: int) -> None:
        self._history, self._rungs, self._epochs, self._factor = history, rungs, epochs, factor
        ranking = [number for number, _ in history.ranking()]
        self.winner = ranking[0] if ranking else None
        self._final = [number for number in ranking if _has(history.trials[number], epochs[-1])][:_BEST]

    def look(self, epoch: int) -> Look:
        order = standings(self._epochs, epoch, self._history.trials, self._history.objectives)
        places = {number: 1 + sum(other < score for other, _ in order) for score, number in order}
        kept = max(1, len(order) // self._factor)
        present = [number for number in self._final if number in places]
        following, last = self._epochs[self._epochs.index(epoch) + 1], self._epochs[-1]
        # Before the first rung nothing is stopped, so the first rung is what there is to foretell.
        until = last if len(self._rungs) == 1 else max(following, min(last, self._rungs[0]))
        return Look(
            epoch=epoch,
            is_rung=epoch in self._rungs,
            trials=len(order),
            kept=kept,
            winner_place=None if self.winner is None else places.get(self.winner),
            best=len(present),
            best_kept=sum(places[number] <= kept for number in present),
            next=self._agreement(epoch, following),
            last=self._agreement(epoch, last),
            risk=_risk(self._agreement(epoch, until), len(order), kept),
        )

    def _agreement(self, early: int, late: int) -> Agreement | None:
        here = [t for t in self._history.trials if _has(t, early)]
        again = [t for t in here if _has(t, late)]
        later = dict(zip((t.number for t in again), self._scores(again, late), strict=True))
        return agreement(late, self._scores(here, early), [later.get(t.number) for t in here])

    def _scores(self, trials: Sequence[Trial], epoch: int) -> list[float]:
        seen = [value_at(trial, epoch) for trial in trials]
        return self._history.objectives.scores([s for s in seen if s is not None])


def _risk(found: Agreement | None, trials: int, kept: int) -> Risk | None:
    if found is None:
        return None
    chance, low, high = (chance_of_missing(c, trials, kept) for c in (found.mended, found.high, found.low))
    return Risk(found.epoch, chance, low, high, found.trials)


def epochs_to_compare(rungs: Sequence[int], factor: int) -> tuple[int, ...]:
    """A few epochs at which to compare trials: a ladder, and the scheduler's rungs unless it has very many."""
    steps = ladder(1, max(2, factor), rungs[-1])
    return tuple(sorted({*steps, *rungs})) if len(rungs) <= _MOST_LOOKS else steps


def _has(trial: Trial, epoch: int) -> bool:
    seen = value_at(trial, epoch)
    return seen is not None and seen.is_finite


def _advice(looks: Sequence[Look], rungs: Sequence[int], *, has_grace: bool) -> tuple[str, str] | None:
    """(advice, why there is none); None where too little is known to say either."""
    grace = rungs[0]
    known = [x for x in looks if x.trials >= FEWEST_TRIALS and x.risk is not None and x.risk.trials >= FEWEST_AGAIN]
    if not known:
        return None
    if len(rungs) > 1 and not has_grace:
        return "", "this scheduler has no grace_epochs to advise on"
    safe = next((look for look in known if _is_safe(look)), None)
    if len(rungs) == 1:
        head = f"stopping early could pay: scheduler asha with grace_epochs {safe.epoch}" if safe else ""
        return (f"{head}: {_reasons(safe)}", "") if safe else ("", f"no early epoch is safe: {_reasons(known[-1])}")
    first = next((look for look in known if look.epoch >= grace), None)
    if safe is not None and safe.epoch <= grace:
        head = f"grace_epochs could be {safe.epoch}" if safe.epoch < grace else f"grace_epochs {grace} is late enough"
        return f"{head}: {_reasons(safe)}", ""
    if first is None or first.epoch > grace or not _is_risky(first):
        return "", f"the trials do not decide whether grace_epochs {grace} is right: {_reasons(first or known[0])}"
    head = f"grace_epochs should be at least {safe.epoch}" if safe else f"grace_epochs {grace} is too early"
    return f"{head}: {_reasons(first)}", ""


def _is_safe(look: Look) -> bool:
    return look.keeps_winner and look.risk is not None and look.risk.high <= _SAFE


def _is_risky(look: Look) -> bool:
    """Sure to stop good trials; or likely to, and its own winner would have been one of them."""
    if look.risk is None:
        return False
    return look.risk.low >= _RISKY or (not look.keeps_winner and look.risk.chance >= _SAFE)


def _reasons(look: Look) -> str:
    place = "has no value there" if look.winner_place is None else f"was place {look.winner_place} of {look.trials}"
    text = f"at epoch {look.epoch} the final winner {place}, and {look.kept} go on"
    if look.risk is None:
        return text
    risk = look.risk
    return (
        f"{text}; the chance that the best of epoch {risk.until} is not among them is {_percent(risk.chance)} "
        f"(90 % interval {_percent(risk.low)} to {_percent(risk.high)}, from {risk.trials} trials seen at both)"
    )


def _percent(share: float) -> str:
    return f"{share:.0%}" if share >= _LEAST_SHOWN else f"under {_LEAST_SHOWN:.0%}"
