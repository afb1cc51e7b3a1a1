"""Sweeps as folders under the data folder: making a new one, finding one by what a person types, reading how it stands.

The folder is the record. There is no second list of sweeps that could disagree with it. An object store has the same
names below a location of its own, for the sweeps of a service.
"""

from __future__ import annotations

import fcntl
import json
import logging
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

from service.errors import SweepNotFoundError
from service.plugins import nearest
from service.sweeps.driver_word import tidied
from service.sweeps.once_log import OnceLog
from service.tuning.confined import read_object_in
from service.tuning.ledger import FOLDER as LEDGER
from service.tuning.storage import FolderStorage
from service.tuning.storage_place import Place, storage_at
from service.tuning.sweep_folder import JOB_FILE, PAST_FILE, PROGRESS_FILE, Job, read_job, write_job

LAUNCH_FILE: Final = "launch.json"
MAX_ID: Final = 47  # the longest name Kubernetes takes for a RayJob
_SUFFIX: Final = len("-yyyymmdd-012345")
_odd: Final = OnceLog(logging.getLogger(__name__))


@dataclass(frozen=True, slots=True)
class Sweep:
    """One sweep's folder, or what stands for it in an object store."""

    place: Place

    @property
    def id(self) -> str:
        """The sweep's id, which is also its folder's name."""
        return self.place.name

    @property
    def folder(self) -> Path:
        """Its folder. TypeError where it has none; the commands of this machine are about folders only."""
        if not isinstance(self.place, Path):
            msg = f"{self.place} is no folder"
            raise TypeError(msg)
        return self.place

    def exists(self) -> bool:
        """Whether it was made, and is not deleted. OSError where an object store cannot tell."""
        if isinstance(self.place, Path):
            return self.place.exists()
        try:
            self.place.stat(JOB_FILE)
        except FileNotFoundError:
            return False
        return True

    def has_record(self) -> bool:
        """Whether its driver has begun a ledger."""
        if isinstance(self.place, Path):
            return (self.place / LEDGER).exists()
        return bool(self.place.names(LEDGER))

    @property
    def name(self) -> str:
        """The name in the sweep file; where that cannot be read any more, the one that the id begins with."""
        try:
            return str(self.spec().get("name", self.id[:-_SUFFIX]))
        except SweepNotFoundError:
            return self.id[:-_SUFFIX]

    @property
    def created_at(self) -> float:
        """When the sweep was made, in seconds since the epoch."""
        return storage_at(self.place).stat(JOB_FILE).changed_at

    def spec(self) -> dict[str, Any]:
        """The resolved sweep file, as `SweepSpec.from_dict` takes it."""
        return read_job(self.place).spec

    def launch(self) -> dict[str, Any]:
        """What the job needs beside the spec: the folder it was started from."""
        return _read_json(self.place, LAUNCH_FILE) or {}

    def progress(self) -> dict[str, Any] | None:
        """The driver's newest word on how the sweep stands; None before its first, and for what is no such word."""
        said = _read_json(self.place, PROGRESS_FILE)
        return None if said is None else tidied(said)

    def write_progress(self, progress: dict[str, Any]) -> None:
        """Say how the sweep stands while no driver is there to say it."""
        storage_at(self.place).replace(PROGRESS_FILE, json.dumps(progress).encode())

    def path(self, name: str) -> Path:
        """A file of the sweep, as in `report/report.html` or `logs/driver.log`."""
        return self.folder / name


_Root = TypeVar("_Root", bound=Place)


def sweeps_folder(root: _Root) -> _Root:
    """The folder that holds one folder per sweep, under the data folder or a location."""
    return root / "sweeps"  # type: ignore[return-value]  # of its own kind


def make_home(home: Path) -> None:
    """Make the data folder where there is none, for its owner alone: it holds people's code, data and models.

    One that is there is left as it is: others may have been let in on purpose.
    """
    home.mkdir(parents=True, exist_ok=True, mode=0o700)


def create(root: Place, job: Job, launch: dict[str, Any], past: bytes | None = None) -> Sweep:
    """A new sweep's folder with everything its driver needs; it gets its name once it is whole.

    `past` is what earlier sweeps showed, where it learns from some. Where somebody else was first, theirs is left.
    """
    if isinstance(root, Path):
        return _create_folder(root, job, launch, past)
    place = sweeps_folder(root) / job.sweep_id
    if past is not None:
        place.replace(PAST_FILE, past)
    place.replace(LAUNCH_FILE, json.dumps(launch).encode())
    write_job(place, job)  # last: with it the sweep is there
    return Sweep(place)


def _create_folder(home: Path, job: Job, launch: dict[str, Any], past: bytes | None) -> Sweep:
    sweep = Sweep(sweeps_folder(home) / job.sweep_id)
    partial = sweep.folder.with_name(f".{sweep.id}.{secrets.token_hex(4)}")
    make_home(home)
    partial.mkdir(parents=True)
    try:
        write_job(partial, job)
        FolderStorage(partial).replace(LAUNCH_FILE, json.dumps(launch, indent=1).encode())
        if past is not None:
            FolderStorage(partial).replace(PAST_FILE, past)
        partial.rename(sweep.folder)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        if not (sweep.folder / JOB_FILE).is_file():
            raise
    return sweep


def remove(sweep: Sweep) -> None:
    """Remove all of a sweep: out of sight first, so that a half removed one is never taken for a sweep."""
    place = sweep.place
    if not isinstance(place, Path):
        place.delete(JOB_FILE)
        place.clear()
        return
    gone = place.with_name(f".deleted-{sweep.id}")
    with suppress(FileNotFoundError):
        place.rename(gone)
    for leftover in (gone, *partials(place)):
        if leftover.exists():
            shutil.rmtree(leftover)


def partials(folder: Path) -> list[Path]:
    """What has been begun of the sweep folder `folder` and is not whole yet, by whoever makes it or was killed."""
    return list(folder.parent.glob(f".{folder.name}.*"))


def new_id(name: str) -> str:
    """`<name>-<yyyymmdd>-<6 hex digits>`, at most 47 characters that Kubernetes, MLflow and file systems all take."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    slug = slug if slug[:1].isalpha() else f"s-{slug}".rstrip("-")
    day = datetime.now(UTC).strftime("%Y%m%d")
    return f"{slug[: MAX_ID - _SUFFIX].rstrip('-')}-{day}-{secrets.token_hex(3)}"


def every(home: Place, project: str | None = None) -> list[Sweep]:
    """All sweeps under the data folder or a location, or those of one project of the service, the newest first."""
    if isinstance(home, Path):
        sweeps = [Sweep(path.parent) for path in sweeps_folder(home).glob(f"[!.]*/{JOB_FILE}")]
    else:
        folder = sweeps_folder(home)
        sweeps = [sweep for name in folder.names("") if (sweep := Sweep(folder / name)).exists()]
    mine = sweeps if project is None else [sweep for sweep in sweeps if sweep.launch().get("project") == project]
    return sorted(mine, key=lambda s: (s.created_at, s.id), reverse=True)


def find(home: Place, text: str | None, project: str | None = None) -> Sweep:
    """The sweep that `text` means: an id, else a name (its newest sweep), else the start of one id; None the newest.

    With `project` no other's is seen. SweepNotFoundError says what is there instead.
    """
    sweeps = every(home, project)
    if not sweeps:
        msg = f"there are no sweeps under {home}; start one with `tuneyard run sweep.yaml`"
        raise SweepNotFoundError(msg)
    if text is None:
        return sweeps[0]
    exact = [s for s in sweeps if s.id == text] or [s for s in sweeps if s.name == text][:1]
    matches = exact or [s for s in sweeps if s.id.startswith(text)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        msg = f"{text!r} begins the ids of {len(matches)} sweeps; write more of it: {_some(matches)}"
        raise SweepNotFoundError(msg)
    near = nearest(text, [s.id for s in sweeps] + [s.name for s in sweeps])
    hint = f"did you mean {near!r}?" if near else f"there are: {_some(sweeps)}"
    msg = f"no sweep {text!r} under {home}; {hint}"
    raise SweepNotFoundError(msg)


@contextmanager
def one_at_a_time(home: Path) -> Iterator[None]:
    """Held while a sweep is made and started, so that two commands at once see each other's sweep."""
    make_home(home)
    folder = sweeps_folder(home)
    folder.mkdir(exist_ok=True)
    with (folder / ".starting").open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _read_json(place: Place, name: str) -> dict[str, Any] | None:
    path = f"{place}/{name}"
    try:
        found = read_object_in(place, name)
    except FileNotFoundError:
        _odd.forget(path)
        return None
    except (OSError, ValueError) as error:
        _odd.warn(path, f"what is in {path} is passed over: {error}")
        return None
    _odd.forget(path)
    return found


def _some(sweeps: list[Sweep]) -> str:
    shown = ", ".join(s.id for s in sweeps[:5])
    return shown + (f" and {len(sweeps) - 5} more" if len(sweeps) > 5 else "")  # noqa: PLR2004  # as shown above
