"""What a sweep leaves behind: its report, what mattered and best.yaml, in its folder and on record for MLflow."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import logging
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import yaml

from service.spec.sweep_spec import SweepSpec
from service.tuning.conductor import Conductor
from service.tuning.confined import read_in
from service.tuning.events import Artifacts, Record, SweepEnded
from service.tuning.history import History
from service.tuning.ledger import read_ledger
from service.tuning.patience import patiently
from service.tuning.retention import best_checkpoint
from service.tuning.storage_place import Place, storage_at
from service.tuning.sweep_folder import TRIAL_CONFIG

log: Final = logging.getLogger(__name__)
REPORT_JSON: Final = "report/report.json"
REPORT_HTML: Final = "report/report.html"
IMPORTANCE_JSON: Final = "report/importance.json"
IMPORTANCE_SVG: Final = "report/importance.svg"
BEST_CONFIG: Final = "report/best.yaml"
PARETO_CSV: Final = "report/pareto.csv"


def leave_report(conductor: Conductor, spec: SweepSpec, place: Place, warnings: Sequence[str]) -> list[str]:
    """Write the report of the finished sweep in `place` and put its files on record; what went wrong, as warnings."""
    finished = conductor.finished
    ended = None if finished is None else SweepEnded(finished.ending, finished.reason)
    try:
        with conductor.lock:
            conductor.commit(_best_artifacts(conductor.history, spec))
            write = partial(write_report, place, spec, ended=ended, warnings=warnings)
            names = patiently(write, "writing the report", until=lambda: conductor.is_giving_up)
            conductor.commit([Artifacts(None, tuple(names))])
    except Exception as error:  # a report that fails must not fail a sweep whose results are all there
        log.exception("no report")
        return [f"the report could not be written: {error}; `tuneyard report` tries again"]
    return []


def write_report(
    place: Place, spec: SweepSpec, *, ended: SweepEnded | None = None, warnings: Sequence[str] = ()
) -> list[str]:
    """Write the report of the sweep in `place` as far as its ledger tells, finished or not; the names of the files."""
    files = report_files(place, spec, read_ledger(place), ended=ended, warnings=warnings)
    storage = storage_at(place)
    for name, text in files.items():
        storage.replace(name, text.encode())
    return list(files)


def report_files(
    place: Place,
    spec: SweepSpec,
    records: Sequence[Record],
    *,
    ended: SweepEnded | None = None,
    warnings: Sequence[str] = (),
) -> dict[str, str]:
    """The report that `records` of the sweep in `place` make: the text of each of its files."""
    from service.tuning.insight import KEYS
    from service.tuning.insight_svg import importance_svg
    from service.tuning.report import build_report
    from service.tuning.report_html import render

    report = build_report(records, spec, ended=ended, warnings=warnings)
    history = History.of(spec.objectives, records)
    best = best_config(history, spec, place)
    taught = {key: report[key] for key in KEYS}
    files = {
        REPORT_JSON: json.dumps(report, indent=1),
        REPORT_HTML: render(report, best),
        IMPORTANCE_JSON: json.dumps(taught, indent=1),
        IMPORTANCE_SVG: importance_svg(taught, spec.name),
    }
    if best is not None:
        files[BEST_CONFIG] = best
    front = pareto_csv(history)
    if front is not None:
        files[PARETO_CSV] = front
    return files


def pareto_csv(history: History) -> str | None:
    """The Pareto front as a table, the chosen compromise first; None with one objective or while nothing is on it."""
    front = history.pareto()
    if not front:
        return None
    names = list(dict.fromkeys(name for number, _ in front for name in history.trials[number].params))
    goals = [o.name for o in history.objectives.objectives]
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["trial", "epoch", *goals, *names])
    for number, epoch in front:
        trial = history.trials[number]
        table.writerow([number, epoch, *(trial.metrics[epoch][name] for name in goals), *map(trial.params.get, names)])
    return text.getvalue()


def best_config(history: History, spec: SweepSpec, place: Place) -> str | None:
    """best.yaml of the sweep so far; None while no trial has reported."""
    from service.tuning.best_config import best_yaml

    ranking = history.ranking()
    if not ranking:
        return None
    number, epoch = ranking[0]
    trial = history.trials[number]
    values = ", ".join(f"{o.name} {trial.metrics[epoch][o.name]:.6g}" for o in spec.objectives.objectives)
    folds = spec.evaluation.arguments(trial.fold)
    header = [
        f"Sweep {history.sweep_id}, best of {history.configurations} trials: trial {number}, {values}, epoch {epoch}.",
        "A plain LightningCLI config: python main.py fit --config best.yaml, where main.py calls LightningCLI().",
    ]
    if folds:
        header.append(f"It trains on the first fold; {spec.evaluation.fold_argument} says on which.")
    if trial.epoch != epoch or epoch != spec.max_epochs:
        header.append(f"It ran with trainer.max_epochs {spec.max_epochs}; put that back if your code reads it.")
    return best_yaml(
        spec.fit,
        {**trial.params, **folds},
        seed=seed_of(spec),
        max_epochs=epoch,
        header=header,
        resolved=_resolved(place, number),
    )


def _resolved(place: Place, number: int) -> dict[str, Any] | None:
    """The whole config of a trial, as its worker left it; None where it did not."""
    with contextlib.suppress(FileNotFoundError):
        found: dict[str, Any] = yaml.safe_load(read_in(place, TRIAL_CONFIG.format(trial=number)))
        return found
    return None


def seed_of(spec: SweepSpec) -> int:
    """The seed of every trial: the user's own `seed_everything`, else the sweep's."""
    own = spec.fit.get("seed_everything")
    return own if isinstance(own, int) and not isinstance(own, bool) else spec.seed


def _best_artifacts(history: History, spec: SweepSpec) -> list[Artifacts]:
    """The checkpoints that the sweep keeps, on record for their trials."""
    kept = history.ranking()[: spec.checkpoints.save_sweep_best]
    saved = [(number, best_checkpoint(history.trials[number], epoch)) for number, epoch in kept]
    return [Artifacts(number, (checkpoint.path,)) for number, checkpoint in saved if checkpoint is not None]
