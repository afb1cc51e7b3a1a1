"""The promise, as a checker: one list of invariants for Tuneyard and for the baseline, each a small pure function."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from tests.chaos.outcome import Ended, Outcome, redone_by_attempt

UNFINISHED: Final = ("RUNNING", "SCHEDULED")
LARGEST: Final = 1e30  # a value beyond it has diverged: no finite number stands for it on the record


@dataclass(frozen=True, slots=True)
class Expected:
    """The undisturbed run (`Expected.of` its outcome), and what the fault itself is allowed to change."""

    proposals: dict[int, dict[str, Any]]
    results: dict[tuple[int, int], float]
    endings: dict[int, str]
    best: tuple[int, int] | None
    ended: Ended = "completed"
    spoiled: dict[int, str | None] = field(default_factory=dict)  # trials the fault spoils -> ending (None: any)
    parents: int = 1  # runs that are no trial's: the sweep's own
    intervals: int = 1  # that one interruption may cost; two where the newest checkpoint was damaged
    free_proposals: frozenset[int] = frozenset()  # trials whose configuration the fault itself changes

    @classmethod
    def of(cls, outcome: Outcome, parents: int = 1) -> Expected:
        """What a run with a fault has to come to, by the undisturbed run's outcome."""
        return cls(
            proposals=outcome.proposals,
            results={key: values[0] for key, values in outcome.results.items()},
            endings={trial: endings[0] for trial, endings in outcome.endings.items()},
            best=outcome.best,
            parents=parents,
        )


def check(outcome: Outcome, expected: Expected) -> list[str]:
    """The broken invariants in words; none where everything promised was kept."""
    return [problem for invariant in INVARIANTS for problem in invariant(outcome, expected)] + outcome.broken


def ended_as_expected(outcome: Outcome, expected: Expected) -> list[str]:
    """The sweep ended, and as it should."""
    return [] if outcome.ended == expected.ended else [f"the sweep is {outcome.ended}, not {expected.ended}"]


def no_acknowledged_result_lost(outcome: Outcome, expected: Expected) -> list[str]:
    """What a worker was told is on record stands there, with the value that was trained."""
    problems = []
    for line in outcome.truth:
        recorded = outcome.results.get((line.trial, line.epoch))
        name = f"trial {line.trial}, epoch {line.epoch}"
        if recorded is None and line.kind == "acknowledged":
            problems.append(f"acknowledged result lost: {name}")
        elif recorded and line.trial not in expected.spoiled and not any(same(line.value, value) for value in recorded):
            problems.append(f"wrong value: {name} is {recorded}, trained was {line.value}")
    return unique(problems)


def recorded_once(outcome: Outcome, expected: Expected) -> list[str]:
    """Each result stands on the system's own record once, and those of the undisturbed run are all there."""
    problems = [
        f"on record {len(v)} times: trial {t}, epoch {e}" for (t, e), v in outcome.results.items() if len(v) > 1
    ]
    untouched = {key: value for key, value in expected.results.items() if key[0] not in touched(expected)}
    for (trial, epoch), value in untouched.items():
        recorded = outcome.results.get((trial, epoch))
        if recorded is None:
            problems.append(f"not on record, other than undisturbed: trial {trial}, epoch {epoch}")
        elif not same(recorded[0], value):
            problems.append(f"trial {trial}, epoch {epoch} is {recorded[0]}, undisturbed {value}")
    more = [key for key in outcome.results if key not in expected.results and key[0] not in touched(expected)]
    return problems + [f"trained further than undisturbed: trial {trial}, epoch {epoch}" for trial, epoch in more]


def points_once_in_mlflow(outcome: Outcome, expected: Expected) -> list[str]:  # noqa: ARG001  # an invariant's signature
    """Each (trial, metric, epoch) stands in MLflow once, and none that is on record is missing."""
    problems, have = [], Counter[tuple[int, str, int]]()
    for run in outcome.runs:
        for (metric, epoch), count in run.points.items():
            if run.trial is not None:
                have[run.trial, metric, epoch] += count
            elif metric == outcome.metric:
                problems.append(f"MLflow: a point of epoch {epoch} stands in a run that is no trial's")
    problems += [f"MLflow: trial {t}, {m}, epoch {e} stands there {n} times" for (t, m, e), n in have.items() if n > 1]
    missing = [(t, e) for t, e in outcome.results if not have[t, outcome.metric, e]]
    problems += [f"MLflow: trial {trial}, epoch {epoch} is missing" for trial, epoch in missing]
    strangers = [(t, e) for t, m, e in have if m == outcome.metric and have[t, m, e] and (t, e) not in outcome.results]
    return problems + [f"MLflow: trial {t}, epoch {e} is not on record" for t, e in strangers]


def as_many_runs_as_trials(outcome: Outcome, expected: Expected) -> list[str]:
    """One child run for each trial, nothing else beside the sweep's own, and none that seems to run."""
    children = Counter(run.trial for run in outcome.runs if run.trial is not None)
    others = sum(run.trial is None for run in outcome.runs)
    problems = [
        f"MLflow: trial {trial} has {children[trial]} runs" for trial in outcome.proposals if children[trial] != 1
    ]
    problems += [f"MLflow: a run of an unknown trial {trial}" for trial in children if trial not in outcome.proposals]
    if others != expected.parents:
        problems.append(f"MLflow: {others} runs that are no trial's, not {expected.parents}")
    running = sum(run.status in UNFINISHED for run in outcome.runs)
    return problems + ([f"MLflow: {running} runs are left RUNNING"] if running and outcome.ended != "paused" else [])


def little_redone(outcome: Outcome, expected: Expected) -> list[str]:
    """One interruption costs at most one checkpoint interval of its trial."""
    allowed = outcome.checkpoint_interval * expected.intervals
    return [
        f"trial {trial}, attempt {attempt} trained {count} epochs again; {allowed} are allowed"
        for (trial, attempt), count in redone_by_attempt(outcome.truth).items()
        if count > allowed
    ]


def searcher_told_once(outcome: Outcome, expected: Expected) -> list[str]:
    """The searcher hears of each trial's end exactly once, and it is the right one."""
    problems = []
    for trial in outcome.proposals:
        told = outcome.endings.get(trial, [])
        wanted = expected.spoiled.get(trial, expected.endings.get(trial))
        if len(told) != 1:
            problems.append(f"the searcher heard {len(told)} times how trial {trial} ended {told or ''}".rstrip())
        elif wanted is not None and told != [wanted] and trial not in expected.free_proposals:
            problems.append(f"trial {trial} ended {told[0]}, not {wanted}")
    return problems


def same_configurations(outcome: Outcome, expected: Expected) -> list[str]:
    """What was proposed is what the undisturbed run proposed."""
    problems = []
    for trial in sorted({*outcome.proposals, *expected.proposals}):
        ours, theirs = outcome.proposals.get(trial), expected.proposals.get(trial)
        if (ours is None) != (theirs is None):
            problems.append(f"trial {trial} {'was never proposed' if ours is None else 'is one too many'}")
        elif ours != theirs and trial not in expected.free_proposals:
            problems.append(f"trial {trial} has another configuration: {ours}, undisturbed {theirs}")
    return problems


def same_best(outcome: Outcome, expected: Expected) -> list[str]:
    """The best is that of the undisturbed run; where the fault spoils trials, the best of all that are on record."""
    wanted = best_of(outcome, expected) if touched(expected) else expected.best
    return [] if outcome.best == wanted else [f"the best is {outcome.best}, not {wanted} (trial, epoch)"]


def nothing_left_behind(outcome: Outcome, expected: Expected) -> list[str]:  # noqa: ARG001  # an invariant's signature
    """No process and no file of ours is left 30 s after the end."""
    return [f"left behind: {what}" for what in outcome.leftovers]


def best_of(outcome: Outcome, expected: Expected) -> tuple[int, int] | None:
    """The (trial, epoch) with the lowest value among trials that neither failed nor diverged, nor should have."""
    lost = [t for t, told in outcome.endings.items() if {"failed", "diverged"} & set(told)]
    lost += [t for t, ending in expected.spoiled.items() if ending in ("failed", "diverged")]
    allowed = [(v[0], t, e) for (t, e), v in outcome.results.items() if t not in lost and is_sane(v[0])]
    return min(allowed)[1:] if allowed else None


def touched(expected: Expected) -> set[int]:
    """The trials that do not have to end up as in the undisturbed run."""
    return {*expected.spoiled, *expected.free_proposals}


def is_sane(value: float) -> bool:
    """Whether the value is a number that can be compared."""
    return math.isfinite(value) and abs(value) < LARGEST


def same(one: float, other: float) -> bool:
    """Whether two values are equal but for what a database's decimals may do."""
    return math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)


def unique(problems: list[str]) -> list[str]:
    """Each problem once, in the order in which it was found."""
    return list(dict.fromkeys(problems))


INVARIANTS: Final[tuple[Callable[[Outcome, Expected], list[str]], ...]] = (
    ended_as_expected,
    no_acknowledged_result_lost,
    recorded_once,
    points_once_in_mlflow,
    as_many_runs_as_trials,
    little_redone,
    searcher_told_once,
    same_configurations,
    same_best,
    nothing_left_behind,
)
