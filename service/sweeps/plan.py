"""What a sweep would do, from its file alone: trials, rungs, epochs, hours, checkpoints. No cluster is asked."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from service import plugins
from service.spec.parameter_rules import lookup
from service.spec.parameters import to_data
from service.spec.reader import search_size
from service.spec.space import Space
from service.spec.sweep_spec import SweepSpec
from service.sweeps.plan_fits import Fits, fits_of
from service.tuning.retention import runners_up

_COUNTED_TRIALS: Final = 50_000  # a scheduler is asked about at most so many; more are taken in proportion
_HOUR_S: Final = 3600


@dataclass(frozen=True, slots=True)
class Plan:
    """The figures of a sweep. None where the file does not decide one; epochs are summed over trials.

    `reach` is how many trials are expected at each of `rungs`. The worst case is that every trial trains to the end.
    `checkpoints_most` bounds the checkpoints on disk at any time, if every trial were paused at once. `fits` says how
    often trials are trained where there are folds or seeds; None with one fit per trial.
    """

    name: str
    search: str
    scheduler: str
    trials: int | None
    fits: Fits | None
    max_concurrent_trials: int | None
    space_size: int | None
    max_epochs: int
    rungs: tuple[int, ...]
    reach: tuple[int, ...] | None
    worst_epochs: int | None
    expected_epochs: int | None
    cpu_per_trial: float
    gpu_per_trial: float
    seconds_per_epoch: float | None
    worst_cpu_hours: float | None
    expected_cpu_hours: float | None
    worst_gpu_hours: float | None
    expected_gpu_hours: float | None
    expected_wall_clock_s: float | None
    checkpoints_most: int | None
    checkpoints_without_pauses: int | None
    notes: tuple[str, ...]
    nodes: tuple[str, ...] = ()  # that it wants of a cluster that grows, in words

    def to_dict(self) -> dict[str, Any]:
        """The same as JSON can hold it."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def plan(spec: SweepSpec, *, seconds_per_epoch: float | None = None) -> Plan:
    """The plan of `spec`; hours need `seconds_per_epoch`, the time that one trial takes for one epoch."""
    options, plugin = spec.scheduler_options(), plugins.find("schedulers", spec.scheduler.name)
    rungs = tuple(int(rung) for rung in plugin.rungs(options))
    trials = _trials(spec)
    reach = None if trials is None else _reach(plugin, options, trials, rungs)
    fits = fits_of(spec.evaluation, trials, None if reach is None else reach[-1])
    most = trials if fits is None else fits.most
    expected = None if reach is None else _epochs(rungs, reach)
    if expected is not None and fits is not None and fits.expected is not None:
        expected += (fits.expected - (trials or 0)) * rungs[-1]
    worst = _capped(None if most is None else most * rungs[-1], spec.budget.total_epochs)
    expected = _capped(expected, spec.budget.total_epochs)
    concurrent = spec.budget.max_concurrent_trials
    live = trials if concurrent is None else concurrent if trials is None else min(trials, concurrent)
    cpu, gpu = spec.resources.cpu, spec.resources.gpu
    return Plan(
        name=spec.name,
        search=spec.search.name,
        scheduler=spec.scheduler.name,
        trials=trials,
        fits=fits,
        max_concurrent_trials=concurrent,
        space_size=spec.space.size,
        max_epochs=spec.max_epochs,
        rungs=rungs,
        reach=reach,
        worst_epochs=worst,
        expected_epochs=expected,
        cpu_per_trial=cpu,
        gpu_per_trial=gpu,
        seconds_per_epoch=seconds_per_epoch,
        worst_cpu_hours=_hours(worst, cpu, seconds_per_epoch, spec.budget.cpu_hours),
        expected_cpu_hours=_expected_hours(expected, cpu, seconds_per_epoch, spec.budget.cpu_hours),
        worst_gpu_hours=_hours(worst, gpu, seconds_per_epoch, spec.budget.gpu_hours),
        expected_gpu_hours=_expected_hours(expected, gpu, seconds_per_epoch, spec.budget.gpu_hours),
        expected_wall_clock_s=_wall_clock_s(expected, live, seconds_per_epoch, spec.budget.wall_clock_s),
        checkpoints_most=_checkpoints(spec, most),
        checkpoints_without_pauses=_checkpoints(spec, live),
        notes=(*_notes(spec, trials, seconds_per_epoch), *(() if fits is None else fits.notes)),
    )


def _trials(spec: SweepSpec) -> int | None:
    """How many trials there will be at most; None where only time or the target ends the sweep."""
    size = search_size(spec.search.name, spec.search_options(), spec.space)
    ends = [spec.budget.max_trials, None if size is None else size + len(spec.search.start_points)]
    return min((end for end in ends if end is not None), default=None)


def _reach(plugin: Any, options: Any, trials: int, rungs: tuple[int, ...]) -> tuple[int, ...]:  # noqa: ANN401  # a plugin and its own Options
    """The scheduler's own answer; all trials at each rung where its file has no `reach(options, trials)`."""
    if not hasattr(plugin, "reach"):
        return (trials,) * len(rungs)
    counted = min(trials, _COUNTED_TRIALS)
    return tuple(round(count * trials / counted) for count in plugin.reach(options, counted))


def _epochs(rungs: tuple[int, ...], reach: tuple[int, ...]) -> int:
    steps = zip((0, *rungs), rungs, reach, strict=False)
    return sum((rung - before) * count for before, rung, count in steps)


def _capped(epochs: int | None, limit: int | None) -> int | None:
    return min((count for count in (epochs, limit) if count is not None), default=None)


def _expected_hours(
    epochs: int | None, share: float, seconds_per_epoch: float | None, limit: float | None
) -> float | None:
    """As `_hours`, but a limit alone says nothing of what is to be expected."""
    is_known = share == 0 or (epochs is not None and seconds_per_epoch is not None)
    return _hours(epochs, share, seconds_per_epoch, limit) if is_known else None


def _hours(epochs: int | None, share: float, seconds_per_epoch: float | None, limit: float | None) -> float | None:
    if share == 0:
        return 0.0
    needed = None if epochs is None or seconds_per_epoch is None else epochs * seconds_per_epoch * share / _HOUR_S
    return min((hours for hours in (needed, limit) if hours is not None), default=None)


def _wall_clock_s(
    epochs: int | None, live: int | None, seconds_per_epoch: float | None, limit_s: float | None
) -> float | None:
    needed = None if epochs is None or not live or seconds_per_epoch is None else epochs * seconds_per_epoch / live
    return min((time_s for time_s in (needed, limit_s) if time_s is not None), default=None)


def _checkpoints(spec: SweepSpec, live: int | None) -> int | None:
    """The best ones, the latest ones of every live trial, and the one that each is about to replace."""
    keep = spec.checkpoints
    asked = spec.evaluation
    best = keep.save_sweep_best + runners_up(is_raced=asked.is_raced, is_single=spec.objectives.is_single)
    if asked.is_raced and asked.test is not False:  # all fits of these keep theirs, for the winner's are tested
        best *= asked.folds * (asked.seeds + asked.final_seeds)
    return None if live is None else best + live * (keep.save_trial_latest + 1)


def _notes(spec: SweepSpec, trials: int | None, seconds_per_epoch: float | None) -> list[str]:
    notes = []
    if trials is None:
        notes.append("no number of trials is set: the sweep runs until its time, its hours or its target are reached")
    elif spec.budget.max_trials is not None and trials < spec.budget.max_trials:
        notes.append(f"the search space is used up after {trials:,} of the {spec.budget.max_trials:,} trials allowed")
    if seconds_per_epoch is None:
        notes.append("hours are given once the seconds per epoch are")
    if spec.budget.max_concurrent_trials is None:
        notes.append("as many trials run at once as fit; budget.max_concurrent_trials limits that")
    if any(objective.target is not None for objective in spec.objectives.objectives):
        notes.append("the sweep ends early once the target is reached")
    notes += _rules(spec)
    notes += [f"{text}: the sweep ends then at the latest" for text in _limits(spec)]
    return notes + _defaults_notes(spec, spec.space)


def _limits(spec: SweepSpec) -> list[str]:
    budget = spec.to_dict()["budget"]
    keys = ("wall_clock", "cpu_hours", "gpu_hours", "total_epochs")
    return [f"budget.{key} is {budget[key]}" for key in keys if key in budget]


def _rules(spec: SweepSpec) -> list[str]:
    """The rules that may end the sweep before its budget is used up."""
    found, budget = [], spec.budget
    if budget.plateau is not None:
        more = f" by more than {budget.plateau.min_delta:g}" if budget.plateau.min_delta else ""
        found.append(
            f"the sweep ends early once {budget.plateau.trials} trials in a row have not improved the best{more}"
        )
    if budget.min_expected_improvement is not None:
        least = f"{budget.min_expected_improvement:g}"
        found.append(f"the sweep ends early once the next trial is expected to improve the best by less than {least}")
    return found


def _defaults_notes(spec: SweepSpec, space: Space) -> list[str]:
    """Which of the user's own values lie outside the space: with such a value they are not tried first."""
    if not spec.search.start_from_defaults:
        return []
    notes = []
    for name, parameter in space.items():
        value = lookup(spec.fit, name)
        if value is not None and parameter.kind != "constant" and not parameter.contains(value):
            form = ", ".join(f"{key}: {item}" for key, item in dict(to_data(parameter)).items())
            notes.append(f"your own {name} is {value!r}, outside its {{{form}}}, so your defaults are not tried first")
    return notes
