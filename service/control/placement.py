"""Carries out what the controller decides about a sweep: folder, job, concurrency, removal; each safe to repeat."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from cluster.backend import Backend, JobError, JobRequest, JobStatus, PlaceLostError, UnknownJobError
from service.control.make_folder import REFUSED
from service.errors import TuneyardError
from service.records import SweepRecord
from service.settings import child_environment
from service.shipping import kept
from service.shipping.unpacking import DamagedPackageError, package_file, package_name, unpack
from service.spec.budget import max_trials_of
from service.sweeps.dispatch import job_request
from service.sweeps.folders import Sweep, create, partials, remove, sweeps_folder
from service.tuning.control import Control, read_control, write_control
from service.tuning.storage_objects import ObjectStorage
from service.tuning.storage_place import Place
from service.tuning.sweep_folder import Job

log: Final = logging.getLogger(__name__)
CODE: Final = "code"  # in a sweep's folder: its code, unpacked
_PAST_TIMEOUT_S: Final = 300.0
_TOLD_S: Final = 60.0
_FORMER_END_S: Final = 30.0  # for a driver whose start was late, and whose successor is due
_ROOT: Final = Path(__file__).parents[2]


class RefusedError(TuneyardError):
    """The sweep cannot be run as it stands, however often it is tried; the text says why."""


class FormerDriverError(TuneyardError):
    """An earlier driver of the sweep is at work, and takes longer to end than one can wait for here."""


@dataclass(frozen=True, slots=True)
class Ground:
    """What every sweep of the service stands on, as its operator has decided."""

    home: Path
    tracking_uri: str | None = None  # None: the data folder's own store
    allows_pip: bool = False
    driver_cpus: float = 0.0  # of the cluster, for each sweep's driver
    storage: ObjectStorage | None = None  # where sweeps live, if not in the data folder

    @property
    def root(self) -> Place:
        """Where sweeps and code packages are."""
        return self.storage or self.home


class Placement:
    """Sweeps on one backend, whose drivers join the Ray cluster at `ray_address`; None: each has a Ray of its own."""

    def __init__(self, ground: Ground, backend: Backend, ray_address: str | None) -> None:
        self.ground, self.backend, self.ray_address = ground, backend, ray_address
        self._told: dict[str, tuple[Control, float]] = {}  # of late, of sweeps on an object store: their word, and when

    def submit(self, record: SweepRecord, is_due: Callable[[], bool]) -> None:
        """Have driver number `record.attempt` started, unless it was, or is not due any more once all is prepared.

        RefusedError where the sweep can never run; JobError, OSError, SubprocessError where it cannot just now;
        FormerDriverError.
        """
        if not is_due():
            return  # somebody was faster
        sweep = self._folder(record)
        request = self._request(sweep, record)
        status = self.status(record.id)
        if status is not None and status.attempt >= record.attempt:
            return
        if status is not None and not status.state.is_over:
            self._end_former(record.id)
        self.tell(record)
        if not is_due():
            return
        progress = sweep.progress()
        if progress:  # of the driver before: its last word is not this one's
            sweep.write_progress({**progress, "state": "starting", "reason": "", "is_final": False})
        self.backend.submit(request)

    def _end_former(self, sweep_id: str) -> None:
        """End a driver that came late, when nobody counted on it any more: whoever asked for it may have been slow."""
        with suppress(UnknownJobError):
            if not self.backend.stop(sweep_id, wait_s=_FORMER_END_S).state.is_over:
                msg = "an earlier driver of it is still at work, and has been told to end"
                raise FormerDriverError(msg)

    def status(self, sweep_id: str) -> JobStatus | None:
        """Where the sweep's job stands by now; None where the backend knows of none."""
        try:
            return self.backend.status(sweep_id)
        except UnknownJobError:
            return None

    def tell(self, record: SweepRecord, *, pause: bool = False) -> None:
        """Leave word for the driver: how many trials it may run at once and in all, and whether to pause.

        Nothing where the sweep has no folder: it comes with its submission, which leaves word, too.
        """
        sweep = self._sweep(record.id)
        asked = Control(record.concurrency or None, max_trials_of(record.spec), pause=pause)
        if self._is_known(record.id, asked) or not sweep.exists():
            return
        if read_control(sweep.place) != asked:
            write_control(sweep.place, asked)
        if self.ground.storage is not None:
            now = time.monotonic()
            known = {sweep_id: told for sweep_id, told in list(self._told.items()) if now - told[1] < _TOLD_S}
            self._told = {**known, record.id: (asked, now)}

    def _is_known(self, sweep_id: str, asked: Control) -> bool:
        """Whether an object store was given this word a moment ago: to look there with each pass would cost much."""
        told, told_at = self._told.get(sweep_id, (None, 0.0))
        return told == asked and time.monotonic() - told_at < _TOLD_S

    def stop(self, sweep_id: str, wait_s: float) -> None:
        """End the sweep's job, with `wait_s` seconds for a clean end; nothing where there is none."""
        with suppress(UnknownJobError):
            self.backend.stop(sweep_id, wait_s=wait_s)

    def forget(self, sweep_ids: Iterable[str]) -> None:
        """Have the backend forget the jobs of these sweeps, as far as it knows any: they are over."""
        for sweep_id in self.backend.statuses(sweep_ids):
            try:
                self.backend.forget(sweep_id)
            except PlaceLostError:
                raise
            except JobError as error:  # of this one alone
                log.warning("the job of %s stays: %s", sweep_id, error)

    def remove(self, sweep_id: str) -> None:
        """Remove all of the sweep."""
        self._told.pop(sweep_id, None)
        remove(self._sweep(sweep_id))

    def remove_package(self, digest: str, before: float) -> None:
        """Remove the zip of a code package that nobody refers to, unless it was sent again since `before`."""
        kept.forget(self.ground.root, digest, before)

    def progress(self, sweep_id: str) -> dict[str, Any] | None:
        """The driver's newest word."""
        return self._sweep(sweep_id).progress()

    def _request(self, sweep: Sweep, record: SweepRecord) -> JobRequest:
        pip = tuple(record.spec.get("code", {}).get("pip", ()))
        if pip and not self.ground.allows_pip:
            msg = "it brings packages of its own (code.pip), which the operator of this service does not allow"
            raise RefusedError(msg)
        request = job_request(self.ground.home, sweep, record.attempt, ray_address=self.ray_address, pip=pip)
        return replace(request, cpu=self.ground.driver_cpus)

    def _folder(self, record: SweepRecord) -> Sweep:
        """The sweep's folder with its code, made where it is not there yet."""
        sweep = self._sweep(record.id)
        root = None if record.code is None else self._code(sweep, record.code)
        if not sweep.exists():
            self._make(sweep, record, root)
        if record.code is not None and isinstance(root, Path):
            self._unpack(record.code, root)
        return sweep

    def _code(self, sweep: Sweep, digest: str) -> Place:
        """Where the sweep's code is: a folder of its own, or the package, which its driver and workers fetch."""
        if isinstance(sweep.place, Path):
            return sweep.place / CODE
        if kept.size_of(self.ground.root, digest) is None:
            msg = f"its code package {digest} is gone; submit it again"
            raise RefusedError(msg)
        return self.ground.root / package_name(digest)

    def _make(self, sweep: Sweep, record: SweepRecord, root: Place | None) -> None:
        for partial in partials(sweep.place) if isinstance(sweep.place, Path) else ():
            with suppress(FileNotFoundError):
                if time.time() - partial.stat().st_mtime > 2 * _PAST_TIMEOUT_S:  # its maker was killed
                    shutil.rmtree(partial)
        job = Job(record.id, self._spec(record), None if root is None else str(root), facts=dict(record.facts))
        launch = {"folder": str(root or sweep.place), "project": record.project, "owner": record.owner}
        if record.spec.get("search", {}).get("warm_start"):
            self._learn(job, launch)
        else:
            create(self.ground.root, job, launch)

    def _unpack(self, digest: str, root: Path) -> None:
        """A copy for this sweep alone, in which its job may write, and which goes with the sweep's folder."""
        package = package_file(self.ground.home, digest)
        try:
            unpack(package, root, digest=digest)
        except DamagedPackageError:
            package.unlink(missing_ok=True)  # so that it is sent again with the next submission
            msg = f"its code package {digest} was damaged; submit it again"
            raise RefusedError(msg) from None
        except FileNotFoundError:
            msg = f"its code package {digest} is gone; submit it again"
            raise RefusedError(msg) from None
        except TuneyardError as error:
            msg = f"its code cannot be unpacked: {error}"
            raise RefusedError(msg) from error

    def _spec(self, record: SweepRecord) -> dict[str, Any]:
        """The sweep file with what only the operator decides."""
        spec = dict(record.spec)
        tracking = {key: value for key, value in dict(spec.get("tracking") or {}).items() if key != "uri"}
        uri = self.ground.tracking_uri
        return {**spec, "tracking": tracking if uri is None else {**tracking, "uri": uri}}

    def _learn(self, job: Job, launch: dict[str, Any]) -> None:
        request = {"home": str(self.ground.home), "root": str(self.ground.root), "job": asdict(job), "launch": launch}
        done = subprocess.run(
            [sys.executable, "-P", "-m", "service.control.make_folder"],
            input=json.dumps(request),
            env=child_environment(_ROOT),
            capture_output=True,
            text=True,
            timeout=_PAST_TIMEOUT_S,
            check=False,
        )
        if done.returncode == REFUSED:
            raise RefusedError(done.stderr.strip())
        if done.returncode:
            msg = f"what earlier sweeps showed could not be read: {done.stderr.strip()[-500:]}"
            raise JobError(msg)

    def _sweep(self, sweep_id: str) -> Sweep:
        return Sweep(sweeps_folder(self.ground.root) / sweep_id)
