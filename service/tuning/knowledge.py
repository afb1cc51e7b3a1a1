"""What earlier sweeps showed, in the words of a new one: read when it is submitted, and a file in its folder from then.

So a sweep needs no earlier sweep any more once it has begun, and its decisions can be replayed bit for bit.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from service.errors import LedgerError
from service.spec.distributions import JSON, Choice, Constant, Integer, Parameter
from service.spec.objective import DIVERGED_LOSS, Objectives, Observation
from service.spec.parameter_rules import lookup
from service.spec.space import Params, Space
from service.tuning.events import AttemptStarted, Record, Reported, TrialEnded, TrialProposed
from service.tuning.storage_place import Place, storage_at
from service.tuning.strategy import PastSweep, PastTrial
from service.tuning.sweep_folder import PAST_FILE

DIGEST_FACT: Final = "warm_start_digest"  # key among a job's facts, which go on record with the sweep's start
ABOUT_FACT: Final = "warm_start"
MAX_TRIALS: Final = 500  # of one earlier sweep: those that trained longest
_VERSION: Final = 1


@dataclass(slots=True)
class EarlierTrial:
    """A trial as it is on record elsewhere: its own params, its metrics by epoch; `broke` where it failed."""

    params: Params
    metrics: dict[int, dict[str, float]] = field(default_factory=dict)
    broke: bool = False


@dataclass(slots=True)
class EarlierSweep:
    """A sweep as it is on record elsewhere; `fit` is its LightningCLI config, as far as it is known."""

    name: str
    trials: list[EarlierTrial]
    fit: Mapping[str, Any] = field(default_factory=dict)


def earlier_trials(records: Iterable[Record]) -> list[EarlierTrial]:
    """The trials of a ledger, whatever its sweep optimised; of several fits of one the first."""
    trials: list[EarlierTrial] = []
    repeats: set[int] = set()
    for record in records:
        match record.event:
            case TrialProposed():
                trials.append(EarlierTrial(dict(record.event.params)))
                if record.event.repeats is not None:
                    repeats.add(record.event.trial)
            case AttemptStarted():
                trials[record.event.trial].params = dict(record.event.params)
            case Reported():
                trial = trials[record.event.trial]
                trial.metrics[record.event.epoch] = dict(record.event.metrics)
                trial.broke = trial.broke or record.event.diverged
            case TrialEnded():
                trials[record.event.trial].broke |= record.event.ending in ("diverged", "failed")
            case _:
                pass
    return [trial for number, trial in enumerate(trials) if number not in repeats]


def translate(earlier: EarlierSweep, space: Space, objectives: Objectives) -> PastSweep:
    """What `earlier` says about `space`: trials that share a parameter and showed this sweep's objectives, or broke.

    At most `MAX_TRIALS` of them, those with the most epochs, in the order in which they were proposed.
    """
    found = []
    for trial in earlier.trials:
        params = translate_params(trial.params, earlier.fit, space)
        curve = _curve(trial, objectives)
        if curve and any(name in trial.params for name in space.dimensions if name in params):
            found.append(PastTrial(params, curve))
    best = sorted(range(len(found)), key=lambda i: -max(found[i].curve))[:MAX_TRIALS]
    return PastSweep(earlier.name, tuple(found[i] for i in sorted(best)))


def translate_params(params: Mapping[str, JSON], fit: Mapping[str, Any], space: Space) -> Params:
    """`params` of an earlier trial, with its config `fit`, as far as they are values of `space`.

    What `space` does not know is left out, and so is a value outside its bounds, and whatever hangs on a condition that
    the rest does not meet. A parameter that the earlier sweep did not have takes its value there, where that is one.
    """
    found: Params = {}
    for name, parameter in space.items():
        if not space.is_active(name, found):
            continue
        value = params[name] if name in params else lookup(fit, name)
        if isinstance(parameter, Constant) and value is None:
            value = parameter.value
        if parameter.contains(value) and (name in params or value is not None):
            found[name] = _own(parameter, value)
    return found


def _own(parameter: Parameter, value: JSON) -> JSON:
    """`value`, which `parameter` contains, in the type in which it would draw it itself."""
    if isinstance(parameter, Constant):
        return parameter.value
    if isinstance(parameter, Choice):
        return parameter.values[parameter.index(value)]
    return int(value) if isinstance(parameter, Integer) else float(value)


def _curve(trial: EarlierTrial, objectives: Objectives) -> dict[int, Observation]:
    """The trial's losses by epoch, a broken one's last as diverged; constraints count where they were measured."""
    names = [objective.name for objective in objectives.objectives]
    curve = {}
    for epoch, metrics in sorted(trial.metrics.items()):
        if all(name in metrics for name in names):
            losses = tuple(objective.loss(metrics[objective.name]) for objective in objectives.objectives)
            kept = [c.violation(metrics[c.metric]) for c in objectives.constraints if c.metric in metrics]
            curve[epoch] = Observation(losses, sum(kept))
    if trial.broke:
        curve[max(curve, default=1)] = Observation((DIVERGED_LOSS,) * len(names))
    return curve


def encode(past: Sequence[PastSweep]) -> bytes:
    """The content of `PAST_FILE`; the same sweeps give the same bytes."""
    sweeps = [{"name": sweep.name, "trials": [_trial_data(trial) for trial in sweep.trials]} for sweep in past]
    return json.dumps({"version": _VERSION, "sweeps": sweeps}, separators=(",", ":")).encode()


def _trial_data(trial: PastTrial) -> dict[str, Any]:
    curve = sorted(trial.curve.items())
    return {
        "params": trial.params,
        "epochs": [epoch for epoch, _ in curve],
        "losses": [[_finite(loss) for loss in seen.losses] for _, seen in curve],
        "violations": [_finite(seen.violation) for _, seen in curve],
    }


def _finite(value: float) -> float:
    """`value`, or the number that stands for one that JSON cannot hold; both rank as diverged."""
    return value if abs(value) < DIVERGED_LOSS else DIVERGED_LOSS


def decode(data: bytes) -> tuple[PastSweep, ...]:
    """The inverse of `encode`; ValueError, KeyError or TypeError where `data` is no such file."""
    content = json.loads(data)
    if content["version"] != _VERSION:
        msg = f"version {content['version']} is not {_VERSION}, which this Tuneyard reads"
        raise ValueError(msg)
    return tuple(PastSweep(sweep["name"], tuple(map(_past_trial, sweep["trials"]))) for sweep in content["sweeps"])


def _past_trial(data: dict[str, Any]) -> PastTrial:
    rows = zip(data["epochs"], data["losses"], data["violations"], strict=True)
    return PastTrial(data["params"], {epoch: Observation(tuple(losses), kept) for epoch, losses, kept in rows})


def digest(data: bytes) -> str:
    """What a job's facts hold of the file, so that the file is the one that the sweep began with."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def read_past(place: Place, facts: Mapping[str, str]) -> tuple[PastSweep, ...]:
    """The earlier sweeps of the sweep in `place`, whose job has `facts`; none where it was started without any.

    LedgerError where the file is not the one that the sweep began with: its decisions would not be the same.
    """
    expected = facts.get(DIGEST_FACT)
    if expected is None:
        return ()
    try:
        data = storage_at(place).read(PAST_FILE)
    except FileNotFoundError:
        data = b""
    if digest(data) != expected:
        msg = f"{place}/{PAST_FILE} is not what this sweep began with: restore it from a backup"
        raise LedgerError(msg)
    return decode(data)
