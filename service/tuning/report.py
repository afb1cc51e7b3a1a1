"""The report of a sweep: everything worth knowing about it as one JSON object, and the same in a few plain lines.

`build_report(read_ledger(folder), spec)` works at any time, also while the sweep runs; `report_html.render` draws it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

from service.spec.sweep_spec import SweepSpec
from service.tuning import report_findings as findings
from service.tuning.events import Record, SweepEnded
from service.tuning.first_fits import configurations_of
from service.tuning.history import History
from service.tuning.insight import insight
from service.tuning.report_held_out import held_out_lines, held_out_of
from service.tuning.report_race import race_lines, race_of
from service.tuning.report_trials import (
    Story,
    best_so_far,
    hypervolume_so_far,
    trial_entries,
    values_at,
)
from service.tuning.tracking_subject import rungs_of

SCHEMA_VERSION: Final = 1
_SHOWN: Final = 5
_FRONT_SHOWN: Final = 20


def build_report(
    records: Iterable[Record],
    spec: SweepSpec,
    *,
    ended: SweepEnded | None = None,
    warnings: Sequence[str] = (),
) -> dict[str, Any]:
    """The report as an object that JSON holds (no NaN); `ended` where the end is known but not in `records` yet.

    Keys: sweep, objectives, constraints, parameters, trials, ranking, best, best_so_far, rungs, pareto, wishes,
    hypervolume, race (None without folds or seeds), held_out (None where nothing was tested), failures, endings,
    cost, budget, outlook, warnings, and those of
    `insight`. Values are the metrics' own; times are seconds since the sweep's start.
    """
    story = Story.of(spec.objectives, records)
    history, rungs = story.history, rungs_of(spec)
    configurations = configurations_of(history)
    return {
        "schema_version": SCHEMA_VERSION,
        "sweep": _sweep(story, spec, ended or history.ended, rungs),
        "objectives": [{"name": o.name, "goal": o.goal, "target": o.target} for o in spec.objectives.objectives],
        "constraints": [str(c) for c in spec.objectives.constraints],
        "parameters": findings.axes(spec, history),
        "trials": trial_entries(story, rungs),
        "ranking": [trial for trial, _ in history.ranking()],
        "best": _best(history),
        "best_so_far": best_so_far(story),
        "rungs": findings.rung_survival(history, rungs),
        **insight(configurations, spec, rungs),
        "pareto": findings.pareto_front(history),
        "wishes": findings.wishes(history),
        "hypervolume": hypervolume_so_far(story),
        "race": race_of(history),
        "held_out": held_out_of(history),
        "failures": findings.failures(history),
        "endings": dict(Counter(str(t.status) for t in history.trials if t.repeats is None)),
        "cost": findings.cost(history, spec),
        "budget": findings.budget_use(history, spec),
        "outlook": findings.outlook(configurations, spec),
        "warnings": list(warnings),
    }


def report_text(report: dict[str, Any]) -> str:
    """The report in lines for a terminal: the best trial, the next ones, what mattered, what it cost."""
    sweep, best, spent = report["sweep"], report["best"], report["cost"]
    endings = ", ".join(f"{count} {name}" for name, count in sorted(report["endings"].items()))
    lines = [f"Sweep {sweep['id']}: {sweep['state']}" + (f" ({sweep['reason']})" if sweep["reason"] else "")]
    lines.append(f"  trials      {sum(report['endings'].values())}: {endings or 'none'}")
    saved = f", {spent['saved_share']:.0%} fewer than without early stopping" if spent["saved_share"] > 0 else ""
    lines.append(f"  cost        {spent['epochs']} epochs{saved}; {_duration(spent['active_seconds'])}")
    if best is None:
        return "\n".join([*lines, "  best        none: no trial has a result that counts"])
    values = ", ".join(f"{name} {value:.6g}" for name, value in best["values"].items() if value is not None)
    lines += _front(report)
    chosen = ", the compromise" if report["pareto"] else ""
    lines.append(f"  best        trial {best['trial']}, epoch {best['epoch']}: {values}{chosen}")
    lines += race_lines(report["race"], report["objectives"][0]["name"])
    lines += held_out_lines(report["held_out"])
    lines += [f"                {name} = {value}" for name, value in best["params"].items()]
    lines += _runners_up(report)
    mattered = [i for i in report["importance"] if i["objective"] == report["objectives"][0]["name"]]
    if mattered:
        shares = ", ".join(f"{_short(i['name'])} {i['total']:.0%}" for i in mattered[:_SHOWN])
        lines.append(f"  mattered    {shares}")
    if report["early_rungs"]["advice"]:
        lines.append(f"  advice      {report['early_rungs']['advice']}")
    causes = [(f["count"], f["cause"].splitlines()[0]) for f in report["failures"] if f["cause"]]
    lines += [f"  failed      {count} times: {cause}" for count, cause in causes[:3]]
    gain = report["outlook"]["expected_improvement"]
    if gain is not None:
        lines.append(f"  next        expected to improve the best {report['outlook']['unit']} by {gain:.2g}")
    return "\n".join([*lines, *(f"  warning     {text}" for text in report["warnings"])])


def _sweep(story: Story, spec: SweepSpec, ended: SweepEnded | None, rungs: tuple[int, ...]) -> dict[str, Any]:
    history = story.history
    state = ended.ending if ended else "paused" if history.paused else "running"
    reason = ended.reason if ended else history.paused.reason if history.paused else ""
    return {
        "id": history.sweep_id,
        "name": spec.name,
        "description": spec.description,
        "state": state,
        "reason": reason,
        "started_at": history.started_at,
        "elapsed_s": round(history.at - history.started_at, 3),
        "seed": spec.seed,
        "search": spec.search.name,
        "scheduler": spec.scheduler.name,
        "max_epochs": spec.max_epochs,
        "rungs": list(rungs),
        "facts": story.facts,
    }


def _best(history: History) -> dict[str, Any] | None:
    ranking = history.ranking()
    if not ranking:
        return None
    number, epoch = ranking[0]
    trial = history.trials[number]
    values = values_at(trial, epoch, history.objectives)
    return {"trial": number, "epoch": epoch, "values": values, "params": trial.params}


def _front(report: dict[str, Any]) -> list[str]:
    """With several objectives, what the best trial is one of."""
    front = [number for number in report["ranking"] if number in set(report["pareto"])]
    more = ", …" if len(front) > _FRONT_SHOWN else ""
    shown = ", ".join(map(str, front[:_FRONT_SHOWN])) + more
    return [f"  front       {len(front)} trials that no other beats in every objective: {shown}"] if front else []


def _runners_up(report: dict[str, Any]) -> list[str]:
    first = report["objectives"][0]["name"]
    entries = [report["trials"][number] for number in report["ranking"][1:_SHOWN]]
    texts = [f"trial {e['trial']} {e['best'][first]:.6g}" for e in entries if e["best"][first] is not None]
    return [f"  then        {', '.join(texts)}"] if texts else []


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _short(name: str) -> str:
    """The part of a parameter's path that tells it from others: `optimizer.class_path` is the optimizer."""
    return name.removesuffix(".class_path").rsplit(".", 1)[-1]
