"""What `list` and `show` say of sweeps, as plain data and as tables."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from service.sweeps.folders import Sweep, every
from service.sweeps.launch import state
from service.views.progress import console, duration, ended, line, number, outlook, parameters, short_names
from service.views.race import race_table

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from service.spec.sweep_spec import SweepSpec
    from service.tuning.history import History, Trial


def rows(home: Path) -> list[dict[str, Any]]:
    """One object per sweep, the newest first: id, name, state, trials over and planned, best value, age in seconds."""
    return [_row(home, sweep) for sweep in every(home)]


def _row(home: Path, sweep: Sweep) -> dict[str, Any]:
    progress = sweep.progress() or {}
    best = progress.get("best") or {}
    return {
        "sweep_id": sweep.id,
        "name": sweep.name,
        "state": state(home, sweep),
        "trials_ended": ended(progress),
        "trials_total": progress.get("trials", {}).get("total"),
        "metric": (progress.get("metric") or {}).get("name"),
        "best": best.get("value"),
        "age_s": round(time.time() - sweep.created_at, 1),
    }


def table(found: list[dict[str, Any]]) -> Table:
    """`rows` for a person."""
    from rich.table import Table

    shown = Table(box=None, header_style="bold", pad_edge=False)
    of_several = ["owner"] if any("owner" in row for row in found) else []
    for column in ("sweep", "state", "trials", "metric", "best", "age", *of_several):
        shown.add_column(column, no_wrap=column == "sweep")
    for row in found:
        total = "" if row["trials_total"] is None else f"/{row['trials_total']}"
        best = "" if row["best"] is None else number(row["best"])
        trials, age = f"{row['trials_ended']}{total}", duration(row["age_s"])
        owners = [row.get("owner", "")] if of_several else []
        shown.add_row(row["sweep_id"], row["state"], trials, row["metric"] or "", best, age, *owners)
    return shown


def details(home: Path, sweep: Sweep, *, with_insight: bool = False) -> dict[str, Any]:
    """A sweep with all its trials, the best first, as its ledger tells; `with_insight`, what they teach as well."""
    from service.spec.sweep_spec import SweepSpec
    from service.tuning.history import History
    from service.tuning.knowledge import ABOUT_FACT
    from service.tuning.ledger import read_ledger
    from service.tuning.report_held_out import held_out_of
    from service.tuning.report_race import race_of
    from service.tuning.sweep_folder import DRIVER_LOG, read_job

    spec = SweepSpec.from_dict(sweep.spec())
    history = History.of(spec.objectives, read_ledger(sweep.folder))
    names = {"report": "report/report.html", "best_config": "report/best.yaml", "log": DRIVER_LOG}
    taught = {"insight": insight_of(history, spec)} if with_insight else {}
    return {
        "sweep_id": sweep.id,
        "state": state(home, sweep),
        "folder": str(sweep.folder),
        **{key: str(sweep.path(name)) for key, name in names.items() if sweep.path(name).exists()},
        **({"warm_start": about} if (about := read_job(sweep.folder).facts.get(ABOUT_FACT)) else {}),
        "progress": sweep.progress() or {},
        "metric": {"name": spec.objectives.objectives[0].name, "goal": spec.objectives.objectives[0].goal},
        "objectives": [o.name for o in spec.objectives.objectives],
        "trials": trial_rows(history),
        **taught,
        "race": race_of(history),
        "held_out": held_out_of(history),
    }


def insight_of(history: History, spec: SweepSpec) -> dict[str, Any]:
    """What the trials teach: which parameters mattered, and how early that showed."""
    from service.tuning.first_fits import configurations_of
    from service.tuning.insight import insight
    from service.tuning.tracking_subject import rungs_of

    return insight(configurations_of(history), spec, rungs_of(spec))


def trial_rows(history: History) -> list[dict[str, Any]]:
    """All trials, the best first."""
    best_epochs, front = dict(history.ranking()), dict(history.pareto())
    order = [*best_epochs, *(t.number for t in history.trials if t.number not in best_epochs)]
    found = [_trial(history, history.trials[n], best_epochs.get(n)) for n in order]
    return found if history.objectives.is_single else [{**trial, "pareto": trial["trial"] in front} for trial in found]


def _trial(history: History, trial: Trial, best_epoch: int | None) -> dict[str, Any]:
    epoch = best_epoch or trial.epoch
    metrics = trial.metrics.get(epoch, {})
    return {
        "trial": trial.number,
        "status": str(trial.status),
        "epoch": trial.epoch,
        "value": metrics.get(history.objectives.objectives[0].name),
        "best_epoch": best_epoch,
        "metrics": metrics,
        "params": trial.params,
        "attempts": trial.attempt,
        "seconds": round(trial.seconds, 3),
        "cause": trial.cause,
        **({} if trial.repeats is None else {"repeats": trial.repeats, "fold": trial.fold, "seed": trial.seed_index}),
    }


def print_details(found: dict[str, Any], limit: int) -> None:
    """`details` for a person: a line on the whole, then the best `limit` trials."""
    out = console()
    out.print(found["sweep_id"], style="bold")
    progress = found["progress"]
    out.print(line({**progress, "state": found["state"]}) if progress else found["state"], markup=False)
    expected = outlook(progress) if progress else None
    if expected is not None:
        out.print(expected, markup=False)
    for key in ("warm_start", "server", "mlflow", "folder", "report", "best_config", "log"):
        if key in found:
            out.print(f"{key.replace('_', ' '):<12}{found[key]}", markup=False, soft_wrap=True)
    _print_held_out(out, found["held_out"])
    if found["race"] and limit:
        out.print(race_table(found["race"], found["metric"]["name"], limit))
    first = [trial for trial in found["trials"] if "repeats" not in trial]
    if first and limit:
        listed = {**found, "trials": first}
        drawn = _trial_table(listed, limit, _columns)
        fits = out.measure(drawn).maximum <= out.width
        out.print(drawn if fits else _trial_table(listed, limit, _one_column))
    if len(first) > limit:
        out.print(f"and {len(first) - limit} more; show them with --trials {len(first)}")
    for trial in found["trials"]:
        if trial["status"] == "failed":
            out.print(f"trial {trial['trial']} failed: {trial['cause']}", markup=False, soft_wrap=True)


def _print_held_out(out: Console, held_out: dict[str, Any] | None) -> None:
    from service.tuning.report_held_out import held_out_lines

    for text in held_out_lines(held_out):
        out.print(text.removeprefix("  "), markup=False, soft_wrap=True)


Cells = Callable[[list[str], dict[str, Any]], dict[str, str]]


def _columns(names: list[str], params: dict[str, Any]) -> dict[str, str]:
    """A cell for each parameter."""
    short = short_names(names)
    return {short[name]: number(params[name]) if name in params else "" for name in names}


def _one_column(_names: list[str], params: dict[str, Any]) -> dict[str, str]:
    """All parameters in one cell, for a terminal too narrow for a column each."""
    return {"parameters": parameters(params)}


def _trial_table(found: dict[str, Any], limit: int, cells: Cells) -> Table:
    from rich.table import Table

    names = list(dict.fromkeys(name for trial in found["trials"] for name in trial["params"]))
    drawn = Table(box=None, header_style="bold", pad_edge=False)
    goals = found.get("objectives") or [found["metric"]["name"]]
    front = ["front"] if len(goals) > 1 else []
    for column in ("trial", "status", "epochs", *front, *(f"best {name}" for name in goals)):
        drawn.add_column(column, no_wrap=True)
    for column in cells(names, {}):
        drawn.add_column(column)
    for i, trial in enumerate(found["trials"][:limit]):
        seen = [trial["metrics"].get(name) for name in goals]
        values = ["" if value is None else number(value) for value in seen]
        marks = ["" if not trial.get("pareto") else "* best" if i == 0 else "*"] if front else []
        params = cells(names, trial["params"]).values()
        drawn.add_row(str(trial["trial"]), trial["status"], str(trial["epoch"]), *marks, *values, *params)
    return drawn
