"""Carries out what the controller decides about a sweep: folder, job, concurrency, removal; each safe to repeat."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from cluster.backend import Backend, JobError, JobRequest, JobStatus, UnknownJobError
from service.control.make_folder import REFUSED
from service.errors import TuneyardError
from service.queueing.lifecycle import max_trials
from service.records import SweepRecord
from service.settings import child_environment
from service.shipping.unpacking import DamagedPackageError, package_file, unpack
from service.sweeps.dispatch import job_request
from service.sweeps.folders import Sweep, create, partials, sweeps_folder
from service.tuning.control import Control, read_control, write_control
from service.tuning.sweep_folder import Job

CODE: Final = "code"  # in a sweep's folder: its code, unpacked
_PAST_TIMEOUT_S: Final = 300.0
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


class Placement:
    """Sweeps on one backend, whose drivers join the Ray cluster at `ray_address`; None: each has a Ray of its own."""

    def __init__(self, ground: Ground, backend: Backend, ray_address: str | None) -> None:
        self.ground, self.backend, self.ray_address = ground, backend, ray_address

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
        """Where the sweep's job stands; None where the backend knows of none."""
        return self.backend.statuses([sweep_id]).get(sweep_id)

    def tell(self, record: SweepRecord, *, pause: bool = False) -> None:
        """Leave word for the driver: how many trials it may run at once and in all, and whether to pause.

        Nothing where the sweep has no folder: it comes with its submission, which leaves word, too.
        """
        folder = self._sweep(record.id).folder
        if not folder.is_dir():
            return
        asked = Control(record.concurrency or None, max_trials(record.spec), pause=pause)
        if read_control(folder) != asked:
            write_control(folder, asked)

    def stop(self, sweep_id: str, wait_s: float) -> None:
        """End the sweep's job, with `wait_s` seconds for a clean end; nothing where there is none."""
        with suppress(UnknownJobError):
            self.backend.stop(sweep_id, wait_s=wait_s)

    def remove(self, sweep_id: str) -> None:
        """Remove the sweep's folder: out of sight first, so that a half removed one is never taken for a sweep."""
        folder = self._sweep(sweep_id).folder
        gone = folder.with_name(f".deleted-{sweep_id}")
        with suppress(FileNotFoundError):
            folder.rename(gone)
        for leftover in (gone, *partials(folder)):
            if leftover.exists():
                shutil.rmtree(leftover)

    def remove_package(self, digest: str, before: float) -> None:
        """Remove the zip of a code package that nobody refers to, unless it was sent again since `before`."""
        path = package_file(self.ground.home, digest)
        with suppress(FileNotFoundError):
            if path.stat().st_mtime < before:
                path.unlink()

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
        root = None if record.code is None else sweep.folder / CODE
        if not sweep.folder.exists():
            self._make(sweep, record, root)
        if root is not None and record.code is not None:
            self._unpack(record.code, root)
        return sweep

    def _make(self, sweep: Sweep, record: SweepRecord, root: Path | None) -> None:
        for partial in partials(sweep.folder):
            with suppress(FileNotFoundError):
                if time.time() - partial.stat().st_mtime > 2 * _PAST_TIMEOUT_S:  # its maker was killed
                    shutil.rmtree(partial)
        job = Job(record.id, self._spec(record), None if root is None else str(root), facts=dict(record.facts))
        launch = {"folder": str(root or sweep.folder), "project": record.project, "owner": record.owner}
        if record.spec.get("search", {}).get("warm_start"):
            self._learn(job, launch)
        else:
            create(self.ground.home, job, launch)

    def _unpack(self, digest: str, root: Path) -> None:
        """A copy for this sweep alone, in which its job may write, and which goes with the sweep's folder."""
        kept = package_file(self.ground.home, digest)
        try:
            unpack(kept, root, digest=digest)
        except DamagedPackageError:
            kept.unlink(missing_ok=True)  # so that it is sent again with the next submission
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
        request = {"home": str(self.ground.home), "job": asdict(job), "launch": launch}
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
        return Sweep(sweeps_folder(self.ground.home) / sweep_id)
