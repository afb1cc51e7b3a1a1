"""Sweeps as folders under the data folder: making a new one, finding one by what a person types, reading how it stands.

The folder is the record. There is no second list of sweeps that could disagree with it.
"""

from __future__ import annotations

import fcntl
import json
import logging
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from service.errors import SweepNotFoundError
from service.plugins import nearest
from service.sweeps.driver_word import tidied
from service.sweeps.once_log import OnceLog
from service.tuning.confined import read_object_in
from service.tuning.storage import FolderStorage
from service.tuning.sweep_folder import JOB_FILE, PAST_FILE, PROGRESS_FILE, Job, read_job, write_job

MAX_ID: Final = 47  # the longest name Kubernetes takes for a RayJob
_SUFFIX: Final = len("-yyyymmdd-012345")
_odd: Final = OnceLog(logging.getLogger(__name__))


@dataclass(frozen=True, slots=True)
class Sweep:
    """One sweep's folder."""

    folder: Path

    @property
    def id(self) -> str:
        """The sweep's id, which is also its folder's name."""
        return self.folder.name

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
        return (self.folder / JOB_FILE).stat().st_mtime

    def spec(self) -> dict[str, Any]:
        """The resolved sweep file, as `SweepSpec.from_dict` takes it."""
        return read_job(self.folder).spec

    def launch(self) -> dict[str, Any]:
        """What the job needs beside the spec: the folder it was started from."""
        return _read_json(self.folder / "launch.json") or {}

    def progress(self) -> dict[str, Any] | None:
        """The driver's newest word on how the sweep stands; None before its first, and for what is no such word."""
        said = _read_json(self.folder / PROGRESS_FILE)
        return None if said is None else tidied(said)

    def write_progress(self, progress: dict[str, Any]) -> None:
        """Say how the sweep stands while no driver is there to say it."""
        write_json(self.folder / PROGRESS_FILE, progress)

    def path(self, name: str) -> Path:
        """A file of the sweep, as in `report/report.html` or `logs/driver.log`."""
        return self.folder / name


def sweeps_folder(home: Path) -> Path:
    """The folder that holds one folder per sweep."""
    return home / "sweeps"


def make_home(home: Path) -> None:
    """Make the data folder where there is none, for its owner alone: it holds people's code, data and models.

    One that is there is left as it is: others may have been let in on purpose.
    """
    home.mkdir(parents=True, exist_ok=True, mode=0o700)


def create(home: Path, job: Job, launch: dict[str, Any], past: bytes | None = None) -> Sweep:
    """A new sweep's folder with everything its driver needs; it gets its name once it is whole.

    `past` is what earlier sweeps showed, where it learns from some. Where somebody else was first, theirs is left.
    """
    sweep = Sweep(sweeps_folder(home) / job.sweep_id)
    partial = sweep.folder.with_name(f".{sweep.id}.{secrets.token_hex(4)}")
    make_home(home)
    partial.mkdir(parents=True)
    try:
        write_job(partial, job)
        write_json(partial / "launch.json", launch)
        if past is not None:
            FolderStorage(partial).replace(PAST_FILE, past)
        partial.rename(sweep.folder)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        if not (sweep.folder / JOB_FILE).is_file():
            raise
    return sweep


def partials(folder: Path) -> list[Path]:
    """What has been begun of the sweep folder `folder` and is not whole yet, by whoever makes it or was killed."""
    return list(folder.parent.glob(f".{folder.name}.*"))


def new_id(name: str) -> str:
    """`<name>-<yyyymmdd>-<6 hex digits>`, at most 47 characters that Kubernetes, MLflow and file systems all take."""
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    slug = slug if slug[:1].isalpha() else f"s-{slug}".rstrip("-")
    day = datetime.now(UTC).strftime("%Y%m%d")
    return f"{slug[: MAX_ID - _SUFFIX].rstrip('-')}-{day}-{secrets.token_hex(3)}"


def every(home: Path, project: str | None = None) -> list[Sweep]:
    """All sweeps under the data folder, or those of one project of the service, the newest first."""
    folders = sweeps_folder(home).glob(f"[!.]*/{JOB_FILE}")
    sweeps = [Sweep(path.parent) for path in folders]
    mine = sweeps if project is None else [sweep for sweep in sweeps if sweep.launch().get("project") == project]
    return sorted(mine, key=lambda s: (s.created_at, s.id), reverse=True)


def find(home: Path, text: str | None, project: str | None = None) -> Sweep:
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


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replace a JSON file as a whole."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(3)}")
    partial.write_text(json.dumps(content, indent=1))
    partial.replace(path)


def _read_json(path: Path) -> dict[str, Any] | None:
    try:
        found = read_object_in(path.parent, path.name)
    except FileNotFoundError:
        _odd.forget(str(path))
        return None
    except (OSError, ValueError) as error:
        _odd.warn(str(path), f"what is in {path} is passed over: {error}")
        return None
    _odd.forget(str(path))
    return found


def _some(sweeps: list[Sweep]) -> str:
    shown = ", ".join(s.id for s in sweeps[:5])
    return shown + (f" and {len(sweeps) - 5} more" if len(sweeps) > 5 else "")  # noqa: PLR2004  # as shown above
