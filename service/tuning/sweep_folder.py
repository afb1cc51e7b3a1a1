"""The names of everything in a sweep's storage folder, and the file that hands a sweep to its driver."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from service.errors import SweepNotFoundError
from service.tuning.confined import read_in
from service.tuning.storage_place import Place, storage_at

JOB_FILE: Final = "sweep.json"
PROGRESS_FILE: Final = "progress.json"
PAST_FILE: Final = "past.json"  # what earlier sweeps showed, where this one learns from some
DRAIN_FILE: Final = "drain"  # while it exists, workers save a checkpoint with their next report
YIELD_FILE: Final = "drain-{trial}"  # the same for the worker of one trial
CONTROL_FILE: Final = "control.json"  # what is asked of the driver while it runs
TRIAL_CONFIG: Final = "configs/trial-{trial}.yaml"  # resolved, as its worker left it
TRIAL_LOG: Final = "logs/trial-{trial}.log"
DRIVER_LOG: Final = "logs/driver.log"
FOLDERS: Final = ("ledger", "lease", "configs", "logs", "report")  # beside `checkpoints`, which has one for each trial
WARM_UP: Final = "warm_up"  # key of a worker's first task; its value is a signature request or None
DEFAULT_RUNNER: Final = "service.tuning.trial:run_attempt"


@dataclass(frozen=True, slots=True)
class Job:
    """What a driver is given: the resolved sweep file and what only the submitting machine knew."""

    sweep_id: str
    spec: dict[str, Any]
    code_root: str | None = None  # the folder with the user's code, or the URL of its package
    defaults: dict[str, Any] = field(default_factory=dict)  # the values without a sweep, class defaults too
    facts: dict[str, str] = field(default_factory=dict)
    untestable: str | None = None  # why no trial can be tested on held-out data; None: nobody has looked
    checks_signatures: bool = True  # the first worker holds the parameter paths against the real classes
    source: str = ""  # the sweep file, as it was named, for messages
    runner: str = DEFAULT_RUNNER  # "module:function" that trains one attempt


def write_job(place: Place, job: Job) -> None:
    """Put `job` into its sweep's folder, which is there: making it would hide what a mount holds."""
    storage_at(place).replace(JOB_FILE, json.dumps(asdict(job), indent=1).encode())


def read_job(place: Place) -> Job:
    """The job of the sweep stored in `place`; SweepNotFoundError if there is none that can be read."""
    try:
        return Job(**json.loads(read_in(place, JOB_FILE)))
    except FileNotFoundError:
        msg = f"{place} holds no sweep; `tuneyard list` shows those that exist"
        raise SweepNotFoundError(msg) from None
    except (ValueError, TypeError):
        msg = f"{place}/{JOB_FILE} is damaged, or another version wrote it: restore it from a backup"
        raise SweepNotFoundError(msg) from None
