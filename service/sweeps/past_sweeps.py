"""Finds the earlier sweeps that `search.warm_start` names and reads what they showed, before a sweep is submitted.

What is found goes into the new sweep's folder as one file: from then on the earlier sweeps may be gone.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from service.errors import Fault, LedgerError, SpecError, SweepNotFoundError
from service.spec.document import shorten
from service.spec.parameter_rules import lookup
from service.spec.space import Space
from service.spec.sweep_spec import SweepSpec
from service.sweeps.folders import Sweep, every, find
from service.tuning.confined import confined
from service.tuning.knowledge import (
    ABOUT_FACT,
    DIGEST_FACT,
    EarlierSweep,
    EarlierTrial,
    digest,
    earlier_trials,
    encode,
    translate,
)
from service.tuning.ledger import read_ledger
from service.tuning.storage_place import Place
from service.tuning.strategy import PastSweep
from service.tuning.sweep_folder import Job
from service.tuning.tracking_names import clean_key
from service.tuning.tracking_server import store_uri, without_password

MAX_SWEEPS: Final = 8  # that `auto`, or one experiment, brings; the newest
FEWEST_TRIALS: Final = 2  # of a sweep that `auto` takes
TIMEOUT_S: Final = 300.0
_MLFLOW: Final = "mlflow:"
_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class Past:
    """What earlier sweeps showed, the newest first, and where it comes from in a few words."""

    sweeps: tuple[PastSweep, ...]
    about: str


@dataclass(frozen=True, slots=True)
class _Where:
    """Where earlier sweeps are: MLflow's own store under `home`, sweeps under `root`, of a project or of all."""

    home: Path
    root: Place
    project: str | None


class _UselessError(Exception):
    """A source that was named has nothing for this sweep; the text says why."""


def with_past(home: Path, job: Job, project: str | None = None, root: Place | None = None) -> tuple[Job, bytes | None]:
    """`job` with what is on record of its earlier sweeps, and the content of their file; None where there are none.

    With `project` only sweeps of that project of the service are seen; `root` is where they are, if not under `home`.
    SpecError where a sweep or an experiment that is named cannot be found or read, or shares nothing with this one.
    """
    spec = SweepSpec.from_dict(job.spec)
    if not spec.search.warm_start:
        return job, None
    past = gather(home, spec, job.source, project, root)
    facts = {**job.facts, ABOUT_FACT: past.about}
    if not past.sweeps:
        return replace(job, facts=facts), None
    data = encode(past.sweeps)
    return replace(job, facts={**facts, DIGEST_FACT: digest(data)}), data


def gather(home: Path, spec: SweepSpec, file: str, project: str | None = None, root: Place | None = None) -> Past:
    """What all sources of `spec` bring, each sweep once; SpecError, as `with_past`, names `file`."""
    found: dict[str, PastSweep] = {}
    faults = []
    for i, source in enumerate(spec.search.warm_start):
        try:
            for past in _read(_Where(home, root or home, project), spec, source):
                found.setdefault(past.name, past)
        except (_UselessError, LedgerError, SweepNotFoundError, OSError) as error:
            given = source if isinstance(source, str) else str({**source, "uri": without_password(source["uri"])})
            faults.append(Fault(str(error), f"search.warm_start[{i}]", file, given=given))
    if faults:
        raise SpecError(faults)
    counts = ", ".join(f"{len(past.trials):,} trials of {past.name}" for past in found.values())
    return Past(tuple(found.values()), counts or "no earlier sweep has the same model class, objectives and parameters")


def _read(where: _Where, spec: SweepSpec, source: str | Mapping[str, str]) -> list[PastSweep]:
    if source == "auto":
        return _alike(spec, every(where.root, where.project))
    if isinstance(source, str) and not source.startswith(_MLFLOW):
        earlier = [_earlier(find(where.root, source, where.project))]
    else:
        name = source.removeprefix(_MLFLOW) if isinstance(source, str) else source["experiment"]
        earlier = _experiment(where.home, spec, name, None if isinstance(source, str) else source["uri"])
    translated = [translate(sweep, spec.space, spec.objectives) for sweep in earlier]
    useful = [past for past in translated if past.trials]
    if not useful:
        raise _UselessError(_why_useless(earlier, spec))
    return useful[:MAX_SWEEPS]


def _alike(spec: SweepSpec, sweeps: Sequence[Sweep]) -> list[PastSweep]:
    """The newest sweeps of the same model class and objectives that share a parameter; unreadable ones are left out."""
    found: list[PastSweep] = []
    for sweep in sweeps:
        if len(found) == MAX_SWEEPS:
            break
        try:
            if not _is_of_the_same_kind(sweep.spec(), spec):
                continue
            past = translate(_earlier(sweep), spec.space, spec.objectives)
        except (LedgerError, SweepNotFoundError, OSError, ValueError, KeyError, TypeError):
            continue  # written by another version, or damaged: it was not asked for by name
        if len(past.trials) >= FEWEST_TRIALS:
            found.append(past)
    return found


def _is_of_the_same_kind(other: Mapping[str, Any], spec: SweepSpec) -> bool:
    metrics = [other["metric"]] if "metric" in other else other.get("metrics", [])
    goals = [(metric["name"], metric["goal"]) for metric in metrics]
    is_same_class = lookup(other["fit"], "model.class_path") == lookup(spec.fit, "model.class_path")
    return is_same_class and goals == [(o.name, o.goal) for o in spec.objectives.objectives]


def _earlier(sweep: Sweep) -> EarlierSweep:
    return EarlierSweep(sweep.id, earlier_trials(read_ledger(sweep.place, confined(sweep.place))), sweep.spec()["fit"])


def _why_useless(earlier: Sequence[EarlierSweep], spec: SweepSpec) -> str:
    trials = [trial for sweep in earlier for trial in sweep.trials]
    names = sorted({name for trial in trials for name in trial.params})
    wanted = ", ".join(objective.name for objective in spec.objectives.objectives)
    if not trials:
        return f"has no trial that reported {wanted}"
    if not set(names) & set(spec.space.dimensions):
        return f"shares no parameter with this sweep; it has {_listed(names)}"
    metrics = sorted({name for trial in trials for report in trial.metrics.values() for name in report})
    if not any(objective.name in metrics for objective in spec.objectives.objectives):
        return f"has no trial that reported {wanted}; they reported {_listed(metrics)}"
    return "has no trial with a value inside this sweep's bounds"


def _listed(names: Sequence[str]) -> str:
    return (", ".join(names[:_SHOWN]) or "none") + (", …" if len(names) > _SHOWN else "")


def _experiment(home: Path, spec: SweepSpec, name: str, uri: str | None) -> list[EarlierSweep]:
    """The sweeps of an MLflow experiment, the newest first; runs that others made are one more."""
    if uri is None and not (home / "mlflow.db").exists():
        msg = f"there is no MLflow store under {home}; name a server with {{experiment: {name}, uri: ...}}"
        raise _UselessError(msg)
    request = {"uri": uri or store_uri(home), "experiment": name, "metrics": list(spec.objectives.metrics)}
    runs = _ask(request)
    sweeps: dict[str, EarlierSweep] = {}
    for run in reversed(runs):
        label = run["sweep"] or f"{_MLFLOW}{name}"
        trial = EarlierTrial(
            dict(_renamed(run["params"], spec.space, is_ours=bool(run["sweep"]))),
            {int(epoch): metrics for epoch, metrics in run["metrics"].items()},
            broke=run["broke"],
        )
        sweeps.setdefault(label, EarlierSweep(label, [])).trials.insert(0, trial)
    return list(sweeps.values())


def _ask(request: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the process that imports MLflow answers."""
    command = [sys.executable, "-P", "-m", "service.tuning.tracking_past"]
    try:
        done = subprocess.run(
            command, input=json.dumps(request), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        msg = f"MLflow did not answer within {TIMEOUT_S:g} s"
        raise _UselessError(msg) from None
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"the reader ended with code {done.returncode}"])[-1]
        raise _UselessError(shorten(without_password(said), 300))
    trials: list[dict[str, Any]] = json.loads(done.stdout)
    return trials


def _renamed(params: Mapping[str, Any], space: Space, *, is_ours: bool) -> Iterator[tuple[str, Any]]:
    """Params under the names of `space`; those of foreign runs may have the last word of a name only, as `lr`."""
    lasts = [name.rpartition(".")[2] for name in space]
    known = {clean_key(name): name for name in space}
    known |= {} if is_ours else {last: name for name, last in zip(space, lasts, strict=True) if lasts.count(last) == 1}
    for key, value in params.items():
        yield known.get(key, key), value
