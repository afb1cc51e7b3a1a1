"""What tracking has to know of a sweep beside its trials: read once from the first record of the ledger."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from service.plugins import find
from service.spec.budget import spec_with
from service.spec.objective import Objectives
from service.spec.sweep_spec import SweepSpec
from service.tuning.events import SweepStarted
from service.tuning.tracking_names import clean_key, param_text, tag_text

_COMMIT = "git_commit"


@dataclass(frozen=True, slots=True)
class Subject:
    """The sweep as MLflow shall show it."""

    sweep_id: str
    experiment: str
    uri: str | None  # None: the embedded store
    objectives: Objectives
    rungs: tuple[int, ...]
    register_best_as: str | None
    is_raced: bool  # trials may be trained several times
    seed: str  # what seeds every trial's fit
    tags: dict[str, str]
    params: dict[str, str]
    resolved: str  # the sweep file with everything filled in, as text

    def resolved_with(self, max_trials: int) -> str:
        """The same with another number of trials."""
        return resolved_text(spec_with(json.loads(self.resolved), max_trials))


def read_subject(started: SweepStarted) -> Subject:
    """The subject of a ledger that begins with `started`; SpecError if its sweep file is none."""
    spec = SweepSpec.from_dict(started.spec)
    return Subject(
        sweep_id=started.sweep_id,
        experiment=spec.tracking.experiment or spec.name,
        uri=spec.tracking.uri,
        objectives=spec.objectives,
        rungs=rungs_of(spec),
        register_best_as=spec.tracking.register_best_as,
        is_raced=spec.evaluation.is_raced,
        seed=_trial_seed(spec),
        tags=_tags(started, spec),
        params=_params(spec),
        resolved=resolved_text(started.spec),
    )


def rungs_of(spec: SweepSpec) -> tuple[int, ...]:
    """The epochs at which the sweep's scheduler compares trials, ascending."""
    rungs: tuple[int, ...] = find("schedulers", spec.scheduler.name).rungs(spec.scheduler_options())
    return rungs


def resolved_text(spec: dict[str, Any]) -> str:
    """The resolved sweep file as YAML: JSON with one key a line, which is YAML too and needs no library here."""
    return json.dumps(spec, indent=2, ensure_ascii=False) + "\n"


def _trial_seed(spec: SweepSpec) -> str:
    own = spec.fit.get("seed_everything")
    return str(spec.seed if own is None or isinstance(own, bool) else own)


def _tags(started: SweepStarted, spec: SweepSpec) -> dict[str, str]:
    facts = {f"tuneyard.{name}": tag_text(value) for name, value in started.facts.items()}
    tags = {**{clean_key(name): tag_text(value) for name, value in spec.tracking.tags.items()}, **facts}
    if started.facts.get(_COMMIT):
        tags["mlflow.source.git.commit"] = started.facts[_COMMIT]
    if spec.description:
        tags["mlflow.note.content"] = tag_text(spec.description)
    objectives = spec.objectives
    return {
        **tags,
        "tuneyard.name": spec.name,
        "tuneyard.seed": str(spec.seed),
        "tuneyard.metric": ", ".join(o.name for o in objectives.objectives),
        "tuneyard.goal": ", ".join(o.goal for o in objectives.objectives),
    }


def _params(spec: SweepSpec) -> dict[str, str]:
    return {
        "search": spec.search.name,
        "scheduler": spec.scheduler.name,
        "max_epochs": str(spec.scheduler.max_epochs),
        "max_trials": param_text(spec.budget.max_trials),
        "seed": str(spec.seed),
    }
