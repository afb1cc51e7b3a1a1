"""The driver's side of Ray Tune: thin shells that let Tune place and run attempts while the conductor decides.

Every attempt is one Tune trial. Tune's own checkpoints, snapshots and restore are not used: the ledger is the truth.
Nothing here may raise, because an exception in a searcher or scheduler ends Tune's loop: then the conductor gives up.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any, Final, Protocol

from ray import cloudpickle, tune
from ray.exceptions import OutOfMemoryError
from ray.tune.execution.tune_controller import TrialRunnerWrapper, TuneController
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from service.tuning.conductor import Conductor
from service.tuning.decisions import Arrival, FailureKind
from service.tuning.events import Begun, Checkpoint
from service.tuning.sweep_folder import WARM_UP
from service.tuning.tune_adjustments import adapt
from service.tuning.watchdog import Watchdog

FINISHED: Final[str] = Searcher.FINISHED
log: Final = logging.getLogger(__name__)
Suggestion = dict[str, Any] | str | None  # a config, Searcher.FINISHED, or None for "not now"


class EndNow(tune.Stopper):  # type: ignore[misc]  # ray ships no types
    """Ends Tune's loop at once when the conductor gives up, or when only workers that nobody needs are still to come.

    On a cluster that has lost a node, such a worker may never come.
    """

    def __init__(self, conductor: Conductor, searcher: SweepSearcher) -> None:
        self._conductor, self._searcher = conductor, searcher

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:  # noqa: ARG002  # Tune's signature
        """Never ends a single trial."""
        return False

    def stop_all(self) -> bool:
        """Whether to end now."""
        is_ending = self._conductor.finished is not None or self._conductor.is_draining
        return self._conductor.is_giving_up or (is_ending and self._searcher.is_only_warming)

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles what it is given; nothing of ours is ever read back from there."""
        return {}


class Owner(Protocol):
    """What the adapters ask of the driver."""

    watchdog: Watchdog

    def warm_up(self, slot: int) -> dict[str, Any]:
        """The first task of the worker in `slot`."""

    def ready(self, message: dict[str, Any]) -> bool:
        """A worker says that it is warm, and may have checked the sweep's signatures; whether it can be used."""

    def worker_lost(self, cause: str) -> bool:
        """A worker was lost before it was warm; whether to try once more."""

    def assign(self, started: Begun) -> dict[str, Any]:
        """What one attempt or test needs beside what all share."""


class SweepSearcher(Searcher):  # type: ignore[misc]  # ray ships no types
    """Hands Tune the attempts that the conductor wants to run, one per free slot, after a warm-up of each slot."""

    def __init__(self, conductor: Conductor, slots: int, owner: Owner) -> None:
        super().__init__(metric="message", mode="max")
        self._conductor, self._owner = conductor, owner
        self._count = slots
        self._free = list(range(slots))[::-1]
        self._cold = list(range(slots))[::-1]
        self._slots: dict[str, int] = {}
        self._workers: dict[int, tuple[int, str]] = {}  # slot -> process id and node of its warm worker
        self.closed: set[int] = set()  # slots whose worker goes, since fewer trials may run at once
        self._warming: set[str] = set()

    @property
    def is_only_warming(self) -> bool:
        """Whether no attempt is out, but a worker that is still to get warm."""
        return bool(self._warming) and len(self._warming) == len(self._slots)

    def suggest(self, trial_id: str) -> Suggestion:
        """The config of the next attempt."""
        try:
            return self._suggest(trial_id)
        except BaseException as error:  # noqa: BLE001  # see the module's docstring
            self._conductor.give_up(error)
            return FINISHED

    def _suggest(self, trial_id: str) -> Suggestion:
        if self._conductor.is_giving_up:
            return FINISHED
        slot = self._slot_to_warm()
        if slot is not None:
            self._free.remove(slot)
            self._cold.remove(slot)
            self.closed.discard(slot)
            self._warming.add(trial_id)
            return self._give(trial_id, slot, self._owner.warm_up(slot))
        warm = [slot for slot in self._free if slot not in self._cold]
        if not warm:  # nor will there be, where the sweep is to end before its first worker was asked for
            return FINISHED if self._conductor.is_draining and not self._slots else None
        started = self._conductor.start()
        if started is None:
            done = self._conductor.finished is not None or (self._conductor.is_draining and not self._slots)
            return FINISHED if done else None
        slot = warm[-1]
        self._free.remove(slot)
        self._owner.watchdog.watch((started.trial, started.attempt), *self._workers[slot])
        return self._give(trial_id, slot, self._owner.assign(started))

    def _slot_to_warm(self) -> int | None:
        """A slot that waits for a worker and may have one: the last that was put there, unless it is still taken."""
        limit = self._conductor.limit
        is_full = limit is not None and self._count - len(self._cold) >= limit
        if not self._cold or self._conductor.is_draining or is_full:
            return None
        return next((slot for slot in reversed(self._cold) if slot in self._free), None)

    def keep_to_limit(self) -> None:
        """Have idle workers go while there are more than trials that may run at once."""
        limit = self._conductor.limit
        for slot in [s for s in self._free if s not in self._cold]:
            if limit is None or self._count - len(self._cold) <= limit:
                return
            self.closed.add(slot)
            self._cold.insert(0, slot)

    def worker_ready(self, slot: int, pid: int, node: str) -> None:
        """The slot has a warm worker."""
        self._workers[slot] = pid, node

    def _give(self, trial_id: str, slot: int, task: dict[str, Any]) -> Suggestion:
        self._slots[trial_id] = slot
        return {"slot": slot, "assignment": json.dumps(task)}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:  # noqa: ARG002, FBT001, FBT002  # Tune's signature
        """Free the slot."""
        self._warming.discard(trial_id)
        slot = self._slots.pop(trial_id, None)
        if slot is not None:
            self._free.append(slot)

    def warm_up_again(self, slot: int) -> None:
        """The slot's worker was lost: nothing is placed there until another one has come up."""
        self._cold.append(slot)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Results are the scheduler's business."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the ledger is the truth."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles what it is given; nothing of ours is ever read back from there."""
        return {}


class SweepScheduler(TrialScheduler):  # type: ignore[misc]  # ray ships no types
    """Passes every message of a worker to the conductor, and its verdict back to Tune."""

    def __init__(self, conductor: Conductor, owner: Owner, searcher: SweepSearcher) -> None:
        super().__init__()
        self._conductor, self._owner, self._watchdog = conductor, owner, owner.watchdog
        self._searcher = searcher
        self._is_adapted = False

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:  # noqa: ARG002  # Tune's signature
        """Record the message and decide."""
        try:
            return str(
                self.CONTINUE if self._receive(json.loads(result["message"]), trial.config["slot"]) else self.STOP
            )
        except BaseException as error:  # noqa: BLE001  # see the module's docstring
            self._conductor.give_up(error)
            return str(self.STOP)

    def _receive(self, message: dict[str, Any], slot: int) -> bool:
        if message["kind"] == "ready":
            self._searcher.worker_ready(slot, message["pid"], message["node"])
            if not self._owner.ready(message):
                self._searcher.warm_up_again(slot)
            return False
        trial, attempt = message["trial"], message["attempt"]
        goes_on = False
        match message["kind"], message.get("failure"):
            case "report", _:
                self._watchdog.heard((trial, attempt))
                goes_on = self._conductor.report(_arrival(message))
            case "tested", _:
                self._conductor.tested(trial, attempt, message["metrics"])
            case "over", _:
                self._conductor.attempt_over(trial, attempt)
            case "failed", "checkpoint":
                self._conductor.checkpoint_lost(trial, attempt, message["cause"])
            case "failed", _:
                self._conductor.attempt_failed(trial, attempt, message["failure"], message["cause"])
        if not goes_on:
            self._watchdog.forget((trial, attempt))
        return goes_on

    def on_trial_error(self, tune_controller: TuneController, trial: Trial) -> None:  # noqa: ARG002  # Tune's signature
        """The worker itself was lost: what the user's code raises comes as a message instead."""
        try:
            assignment = json.loads(trial.config["assignment"])
            error = _error_of(trial)
            cause = str(error).strip() if error else "the worker was lost"
            if WARM_UP in assignment:
                if self._owner.worker_lost(cause):
                    self._searcher.warm_up_again(trial.config["slot"])
                return
            self._searcher.warm_up_again(trial.config["slot"])
            number, attempt = assignment["trial"], assignment["attempt"]
            limit_s = self._watchdog.forget((number, attempt))
            if limit_s is not None:
                cause = f"no report for {limit_s:.0f} s; set failure.report_timeout if that is too short"
                self._conductor.attempt_failed(number, attempt, "hung", cause)
                return
            self._conductor.attempt_failed(number, attempt, _kind_of(error, cause), cause)
        except BaseException as error:  # noqa: BLE001  # see the module's docstring
            self._conductor.give_up(error)

    def choose_trial_to_run(self, tune_controller: TrialRunnerWrapper) -> None:
        """Tune starts pending trials by itself; this is only a place that its loop comes by at each step."""
        try:
            if not self._is_adapted:
                adapt(tune_controller._tune_controller, self._searcher.closed)  # noqa: SLF001  # no public way to reach it
                self._is_adapted = True
            self._searcher.keep_to_limit()
            self._watchdog.tick()
        except BaseException as error:  # noqa: BLE001  # see the module's docstring
            self._conductor.give_up(error)

    def on_trial_add(self, tune_controller: TuneController, trial: Trial) -> None:
        """Nothing to do."""

    def on_trial_complete(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> None:
        """Nothing to do: the message that ended it said all."""

    def on_trial_remove(self, tune_controller: TuneController, trial: Trial) -> None:
        """Nothing to do."""

    def debug_string(self) -> str:
        """A name for Tune's logs."""
        return type(self).__name__

    def __getstate__(self) -> dict[str, Any]:
        """Tune pickles what it is given; nothing of ours is ever read back from there."""
        return {}


def _arrival(message: dict[str, Any]) -> Arrival:
    checkpoint = message["checkpoint"]
    return Arrival(
        trial=message["trial"],
        attempt=message["attempt"],
        epoch=message["epoch"],
        metrics=message["metrics"],
        seconds=message["seconds"],
        checkpoint=None if checkpoint is None else Checkpoint(**checkpoint),
        diverged=message["diverged"],
    )


def _kind_of(error: BaseException | None, cause: str) -> FailureKind:
    return "memory" if isinstance(error, OutOfMemoryError) or "OutOfMemory" in cause else "infrastructure"


def _error_of(trial: Trial) -> BaseException | None:
    path = trial.pickled_error_file
    if path is None or not Path(path).exists():
        return None
    error = cloudpickle.loads(Path(path).read_bytes())  # written by Tune in this very process
    return error if isinstance(error, BaseException) else None
