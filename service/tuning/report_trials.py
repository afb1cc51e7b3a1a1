"""A sweep's trials as a report shows them: folded from the ledger, with the time of every value, in JSON's types."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from service.spec.objective import Objectives
from service.tuning.events import Record, Reported
from service.tuning.history import History, Trial
from service.tuning.hypervolume import Staircase

MOST_POINTS: Final = 60_000  # of all curves together; beyond it curves lose points, then middling trials their curve
_POINTS_PER_CURVE: Final = 120
_BEYOND: Final = 0.1  # of the front's span: so that its ends count, too
_HUGE: Final = 1e29  # the sentinel of a diverged objective is larger


@dataclass(frozen=True, slots=True)
class Moment:
    """One report: when it came, and after how many epochs of the whole sweep."""

    trial: int
    epoch: int
    at: float
    epochs: int


@dataclass(slots=True)
class Story:
    """The whole ledger, folded: the state it leads to, and what came when."""

    history: History
    moments: list[Moment] = field(default_factory=list)
    facts: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, objectives: Objectives, records: Iterable[Record]) -> Story:
        """Fold `records`."""
        story = cls(History(objectives))
        for record in records:
            story.history.apply(record)
            if isinstance(record.event, Reported):
                event = record.event
                story.moments.append(Moment(event.trial, event.epoch, record.at, story.history.epochs_trained))
            facts = getattr(record.event, "facts", None)
            story.facts = facts if facts is not None else story.facts
        return story


def trial_entries(story: Story, rungs: tuple[int, ...]) -> list[dict[str, Any]]:
    """One entry per trial, by number: how it went, its best epoch, its curve per objective."""
    history = story.history
    best = dict(history.ranking())
    stride, kept = _thinning(history, best)
    entries = []
    for trial in history.trials:
        epoch = best.get(trial.number)
        entries.append(
            {
                "trial": trial.number,
                **({} if trial.repeats is None else _repeat(trial)),
                "ending": str(trial.status),
                "source": trial.source,
                "params": trial.params,
                "epochs": trial.epoch,
                "rung": max((r for r in rungs if r <= trial.epoch), default=0),
                "attempts": trial.attempt,
                "seconds": rounded(trial.seconds),
                "started_s": _since(history, trial.started_at),
                "ended_s": _since(history, trial.ended_at),
                "cause": trial.cause,
                "best_epoch": epoch,
                "best": None if epoch is None else values_at(trial, epoch, history.objectives),
                "metrics": {} if epoch is None else {k: rounded(v) for k, v in trial.metrics[epoch].items()},
                "curve": _curve(trial, history.objectives, stride) if trial.number in kept else [],
            }
        )
    return entries


def _repeat(trial: Trial) -> dict[str, Any]:
    return {"repeats": trial.repeats, "fold": trial.fold, "seed_index": trial.seed_index}


def values_at(trial: Trial, epoch: int, objectives: Objectives) -> dict[str, float | None]:
    """The objectives' own values at one epoch of a trial."""
    losses = trial.curve[epoch].losses
    return {o.name: rounded(o.value(x)) for o, x in zip(objectives.objectives, losses, strict=True)}


def best_so_far(story: Story) -> list[dict[str, Any]]:
    """When the first objective's best value improved: seconds since the start, epochs trained, trial, value.

    Trials that failed or diverged later do not count, as in the ranking.
    """
    history = story.history
    ranked = {number for number, _ in history.ranking()}
    objective = history.objectives.objectives[0]
    record, steps = math.inf, []
    for moment in story.moments:
        seen = history.trials[moment.trial].curve[moment.epoch]
        counts = moment.trial in ranked and seen.is_finite and seen.violation == 0 and abs(seen.losses[0]) < _HUGE
        if counts and seen.losses[0] < record:
            record = seen.losses[0]
            steps.append(
                {
                    "at_s": _since(history, moment.at),
                    "epochs": moment.epochs,
                    "trial": moment.trial,
                    "epoch": moment.epoch,
                    "value": rounded(objective.value(record)),
                }
            )
    return steps


def hypervolume_so_far(story: Story) -> list[dict[str, Any]]:
    """When the hypervolume of two objectives grew: seconds since the start, epochs trained, trial, share of the box.

    The box reaches from the best value of each objective to one tenth of the front's span beyond the front's worst.
    Every report counts, as `best_so_far` counts them; empty with any other number of objectives.
    """
    history = story.history
    if len(history.objectives.objectives) != 2:  # noqa: PLR2004  # an area has two sides
        return []
    ranked = {number for number, _ in history.ranking()}
    told = [(m, history.trials[m.trial].curve[m.epoch]) for m in story.moments if m.trial in ranked]
    told = [(m, seen) for m, seen in told if seen.is_finite and seen.violation == 0]
    front = [told[i][1].losses for i in history.objectives.pareto([seen for _, seen in told])]
    if not front:
        return []
    sides = [(min(c), (max(c) - min(c)) or abs(max(c)) or 1.0, max(c)) for c in zip(*front, strict=True)]
    corner = [worst + _BEYOND * span for _, span, worst in sides]
    box = math.prod(end - least for end, (least, _, _) in zip(corner, sides, strict=True))
    stairs, steps = Staircase((corner[0], corner[1])), []
    for moment, seen in told:
        if stairs.add((seen.losses[0], seen.losses[1])):
            when = {"at_s": _since(history, moment.at), "epochs": moment.epochs, "trial": moment.trial}
            steps.append({**when, "epoch": moment.epoch, "value": round(stairs.area / box, 6)})
    return steps


def rounded(value: float) -> float | None:
    """Six significant digits, or None for what JSON and a plot cannot hold."""
    return None if not math.isfinite(value) or abs(value) > _HUGE else float(f"{value:.6g}")


def _since(history: History, at: float | None) -> float | None:
    return None if at is None else round(at - history.started_at, 3)


def _thinning(history: History, best: Mapping[int, int]) -> tuple[int, set[int]]:
    """(every how many epochs a curve keeps a point, the trials that keep their curve)."""
    longest = max((len(t.curve) for t in history.trials), default=0)
    stride = max(1, math.ceil(longest / _POINTS_PER_CURVE))
    room = MOST_POINTS // max(1, min(longest, _POINTS_PER_CURVE))
    numbers = [*best, *(t.number for t in history.trials if t.number not in best)]
    if len(numbers) <= room:
        return stride, set(numbers)
    head = numbers[: room // 2]
    rest = numbers[room // 2 :]
    step = len(rest) / (room - len(head))
    return stride, {*head, *(rest[int(i * step)] for i in range(room - len(head)))}


def _curve(trial: Trial, objectives: Objectives, stride: int) -> list[list[float | None]]:
    """[epoch, value of each objective] of every kept epoch; the last one is always kept."""
    epochs = sorted(trial.curve)
    chosen = [e for i, e in enumerate(epochs) if i % stride == 0 or e == epochs[-1]]
    return [[e, *values_at(trial, e, objectives).values()] for e in chosen]
