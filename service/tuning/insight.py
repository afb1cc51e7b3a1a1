"""What a sweep teaches about its space, in JSON's types: importance, interactions, effects, what early epochs foretold.

Values of parameters are their own, on their own scale; effects are in shares of the other trials that a trial beats.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any, Final

from service.spec.space import Choice, Parameter
from service.spec.sweep_spec import SweepSpec
from service.tuning.early_rungs import early_rungs, epochs_to_compare
from service.tuning.history import History, Status, Trial
from service.tuning.importance import Share, Understanding
from service.tuning.importance_basis import Column
from service.tuning.importance_stages import orders
from service.tuning.report_trials import rounded

KEYS: Final = ("importance", "explained", "interactions", "dependence", "surfaces", "early_rungs")
_MOST_CURVES: Final = 8
_TOTAL: Final = ("total", "total_low", "total_high")
_LEAST_SHARE: Final = 0.01  # of a parameter whose effect is worth a curve


def insight(history: History, spec: SweepSpec, rungs: tuple[int, ...]) -> dict[str, Any]:
    """What KEYS name. All but the last are lists: each entry has its objective, the first one leads.

    They are empty with too few trials to tell.
    """
    trials = [t for t in history.trials if t.curve and t.status is not Status.FAILED]
    columns = [_column(name, spec, trials) for name in spec.space.dimensions]
    found: dict[str, Any] = {key: [] for key in KEYS}
    options = spec.scheduler_options()
    factor, has_grace = getattr(options, "reduction_factor", 3), hasattr(options, "grace_epochs")
    for k, objective in enumerate(history.objectives.objectives):
        curves = [{e: seen.losses[k] if seen.is_finite else math.inf for e, seen in t.curve.items()} for t in trials]
        stages, epoch = orders(curves, epochs_to_compare(rungs, factor))
        known = Understanding(columns, stages, seed=spec.seed)
        if known.is_known:
            for key, entries in _of_objective(known, spec, epoch).items():
                found[key] += [{"objective": objective.name, **entry} for entry in entries]
    found["early_rungs"] = _rounded(asdict(early_rungs(history, rungs, factor=factor, has_grace=has_grace)))
    return found


def _column(name: str, spec: SweepSpec, trials: list[Trial]) -> Column:
    parameter = spec.space[name]
    places = [parameter.to_unit(t.params[name]) if name in t.params else math.nan for t in trials]
    when = {
        parent: tuple(spec.space[parent].to_unit(v) for v in values if spec.space[parent].contains(v))
        for parent, values in parameter.when.items()
        if parent in spec.space.dimensions
    }
    return Column(name, places, is_choice=isinstance(parameter, Choice), when=when)


def _of_objective(known: Understanding, spec: SweepSpec, epoch: int) -> dict[str, list[dict[str, Any]]]:
    worthy = [p.name for p in known.parameters if p.total.share >= _LEAST_SHARE][:_MOST_CURVES]
    return {
        "importance": [
            {"name": p.name, **_numbers(p.main), **_numbers(p.total, _TOTAL), "trials": p.trials}
            for p in known.parameters
        ],
        "explained": [{**_numbers(known.explained), "trials": known.trials, "epoch": epoch}],
        "interactions": [{"names": list(i.names), **_numbers(i.share), "trials": i.trials} for i in known.interactions],
        "dependence": [
            {
                "name": name,
                "points": [[_value(spec, name, place), *_triple(known, at)] for place, at in known.curve(name)],
            }
            for name in worthy
        ],
        "surfaces": [_surface(known, spec, i.names) for i in known.interactions[:1]],
    }


def _surface(known: Understanding, spec: SweepSpec, names: tuple[str, str]) -> dict[str, Any]:
    first, second, mean = known.surface(names)
    values = [[_value(spec, name, p) for p in places] for name, places in zip(names, (first, second), strict=True)]
    return {
        "names": list(names),
        "values": values,
        "mean": [[round(known.as_standing(v), 4) for v in row] for row in mean],
    }


def _value(spec: SweepSpec, name: str, place: float) -> Any:  # noqa: ANN401  # a choice's values are any JSON
    parameter: Parameter = spec.space[name]
    value = parameter.from_unit(place)
    return rounded(value) if isinstance(value, float) else value


def _numbers(share: Share, names: tuple[str, str, str] = ("share", "low", "high")) -> dict[str, float]:
    values = (share.share, share.low, share.high)
    return {name: round(value, 4) for name, value in zip(names, values, strict=True)}


def _triple(known: Understanding, at: Share) -> list[float]:
    return [round(known.as_standing(value), 4) for value in (at.share, at.low, at.high)]


def _rounded(item: Any) -> Any:  # noqa: ANN401  # any tree of JSON's types
    if isinstance(item, dict):
        return {key: _rounded(value) for key, value in item.items()}
    if isinstance(item, list | tuple):
        return [_rounded(value) for value in item]
    return round(item, 4) if isinstance(item, float) else item
