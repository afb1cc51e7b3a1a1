"""From a resolved sweep file to the parts that decide it: objectives, searcher, scheduler, limits, first points."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from service.plugins import find
from service.spec.distributions import Constant, identity
from service.spec.sweep_spec import SweepSpec
from service.tuning.decisions import Decider
from service.tuning.events import Params, Record
from service.tuning.history import History
from service.tuning.limits import Limits
from service.tuning.racing import Race, RacePlan, without_target
from service.tuning.retention import RetentionPolicy, runners_up
from service.tuning.stopping import Outlook
from service.tuning.strategy import Estimates, PastSweep, Problem, Scheduler, Searcher
from service.tuning.warm_start import WarmStarted

SAVES_PER_TRIAL: Final = 10  # for schedulers without inner rungs: a restart loses at most a tenth of a trial


@dataclass(frozen=True, slots=True)
class Parts:
    """Everything that a driver needs from the sweep file."""

    decider: Decider
    retention: RetentionPolicy
    rungs: tuple[int, ...]
    checkpoint_epochs: tuple[int, ...]
    point_warnings: tuple[str, ...]


def history_of(spec: SweepSpec, records: Iterable[Record]) -> History:
    """The history to decide on. Where a configuration has several fits, none of them reaches the target by itself."""
    objectives = without_target(spec.objectives) if spec.evaluation.is_raced else spec.objectives
    return History.of(objectives, records)


def race_of(spec: SweepSpec) -> Race | None:
    """The race over folds and seeds; None where each configuration is trained once."""
    asked = spec.evaluation
    if not asked.is_raced:
        return None
    return Race(
        RacePlan(asked.folds, asked.seeds, asked.final_seeds, asked.finalists, asked.race_level), spec.objectives
    )


def build(spec: SweepSpec, history: History, defaults: Mapping[str, Any], past: tuple[PastSweep, ...] = ()) -> Parts:
    """The parts of `spec`, ready to go on from `history`; `past` is what earlier sweeps showed."""
    options = spec.scheduler_options()
    plugin = find("schedulers", spec.scheduler.name)
    rungs = tuple(plugin.rungs(options))
    problem = Problem(spec.space, spec.objectives, rungs, _seed(spec, past), past, spec.budget.max_trials)
    searcher = cast("Searcher", find("searchers", spec.search.name).build(spec.search_options(), problem))
    warm = WarmStarted(searcher, problem) if past else None
    scheduler = plugin.build(options, problem)
    points, warnings = first_points(spec, defaults)
    decider = Decider(
        searcher=warm or searcher,
        scheduler=cast("Scheduler", scheduler),
        limits=limits_of(spec),
        history=history,
        first_points=points,
        space=spec.space,
        seed=spec.seed,
        warnings=list(warnings),
        is_suggestion=warm.is_suggestion if warm else None,
        outlook=outlook_of(spec, problem),
        race=race_of(spec),
    )
    spare = runners_up(is_raced=spec.evaluation.is_raced, is_single=spec.objectives.is_single)
    retention = RetentionPolicy(spec.checkpoints.save_sweep_best, spec.checkpoints.save_trial_latest, spare)
    return Parts(decider, retention, rungs, checkpoint_epochs(rungs, spec.checkpoints.every_epochs), warnings)


def _seed(spec: SweepSpec, past: tuple[PastSweep, ...]) -> int:
    """The seed of the search: after earlier sweeps of the same seed it would draw their very points again."""
    return (spec.seed + sum(len(sweep.trials) for sweep in past)) % 2**32


def outlook_of(spec: SweepSpec, problem: Problem) -> Outlook:
    """What says whether the next trial pays: a second searcher, whose caches are its own, where it has estimates."""
    searcher = find("searchers", spec.search.name).build(spec.search_options(), problem)
    return Outlook(cast("Estimates", searcher) if hasattr(searcher, "expected_improvement") else None)


def tests_winner(spec: SweepSpec, untestable: str | None) -> bool:
    """Whether the winner is tested on held-out data, given why that cannot be; None where nobody has looked."""
    asked = spec.evaluation.test
    return spec.checkpoints.save_sweep_best > 0 and (untestable == "" if asked == "auto" else asked)


def limits_of(spec: SweepSpec) -> Limits:
    """The limits that `spec` sets."""
    plateau = spec.budget.plateau
    return Limits(
        max_epochs=spec.max_epochs,
        max_trials=spec.budget.max_trials,
        max_failed_trials=spec.budget.max_failed_trials,
        max_restarts=spec.failure.max_restarts,
        wall_clock_s=spec.budget.wall_clock_s,
        cpu_hours=spec.budget.cpu_hours,
        gpu_hours=spec.budget.gpu_hours,
        total_epochs=spec.budget.total_epochs,
        plateau_trials=None if plateau is None else plateau.trials,
        plateau_min_delta=0.0 if plateau is None else plateau.min_delta,
        min_expected_improvement=spec.budget.min_expected_improvement,
        cpu_per_trial=spec.resources.cpu,
        gpu_per_trial=spec.resources.gpu,
    )


def checkpoint_epochs(rungs: tuple[int, ...], every_epochs: int | None) -> tuple[int, ...]:
    """The epochs after which a trial always saves: its rungs and every so many, and the end."""
    last = rungs[-1]
    if every_epochs is None and len(rungs) == 1:
        every_epochs = max(1, last // SAVES_PER_TRIAL)
    steps = range(every_epochs, last + 1, every_epochs) if every_epochs else ()
    return tuple(sorted({*rungs, *steps}))


Points = list[tuple[str, Params]]


def first_points(spec: SweepSpec, defaults: Mapping[str, Any]) -> tuple[Points, tuple[str, ...]]:
    """(source, params) of the trials that come before the searcher's, and why a point was left out."""
    points: Points = []
    warnings: tuple[str, ...] = ()
    if spec.search.start_from_defaults and spec.search.name != "grid":
        params, reason = _defaults_inside(spec, defaults)
        if params is not None:
            points.append(("defaults", params))
        else:
            warnings = (f"your own defaults are not tried first: {reason}",)
    points += [("start_point", dict(point)) for point in spec.search.start_points]
    different = {identity(params): (source, params) for source, params in reversed(points)}
    return list(reversed(different.values())), warnings


def _defaults_inside(spec: SweepSpec, defaults: Mapping[str, Any]) -> tuple[Params | None, str]:
    """The user's own values as a point of the search space, or None and why they are not one."""
    space = spec.space
    known = {
        **{name: value for name in space.names if (value := _lookup(spec.fit or {}, name)) is not None},
        **defaults,
    }
    params: Params = {}
    for name in space.names:
        if not space.is_active(name, params):
            continue
        parameter = space[name]
        if isinstance(parameter, Constant):
            params[name] = parameter.value
        elif name in known:
            params[name] = known[name]
        else:
            return None, f"{name} has no default"
    problems = space.problems(params)
    return (None, problems[0]) if problems else (params, "")


def _lookup(config: Mapping[str, Any], path: str) -> Any:  # noqa: ANN401  # whatever the user's config holds
    node: Any = config
    for part in path.split("."):
        if not isinstance(node, Mapping) or part not in node:
            return None
        node = node[part]
    return node
