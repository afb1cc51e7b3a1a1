"""The worker's side of Ray Tune: a warm process that trains one attempt after another without starting again.

Tune asks it for results one by one (`train`); the fit runs in a thread of the same process and waits, after each
report, until Tune has passed on the verdict: another `train` means go on, a `reset` or `stop` means end.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, ClassVar, Final

from ray import get_runtime_context, tune

from service.errors import CheckpointError, Fault, TrialError
from service.tuning.assignment import Assignment, Report
from service.tuning.code_cache import local_code
from service.tuning.events import Params
from service.tuning.leaving import unsaved
from service.tuning.sweep_folder import DEFAULT_RUNNER, WARM_UP

FIT_END_TIMEOUT_S: Final = 60.0  # a fit that does not end this long after its last report has hung: leave the process
PAUSE_S: Final = 2.0
GO_ON: Final = True
END: Final = False
Message = dict[str, Any]
Runner = Callable[[Assignment, Callable[[Report], bool]], None]


class AttemptTrainable(tune.Trainable):  # type: ignore[misc]  # ray ships no types
    """Runs a warm-up, then attempts. `static`: what all attempts share; `runner` ("module:function") trains one."""

    static: ClassVar[dict[str, Any]]
    runner: ClassVar[str]
    slots: ClassVar[list[tune.PlacementGroupFactory]]

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """The resources of the slot that the attempt was given."""
        return cls.slots[config["slot"]]

    def setup(self, config: dict[str, Any]) -> None:
        """Begin the first task, which is a warm-up."""
        self._task = self._begin(config)

    def train(self) -> dict[str, Any]:
        """The task's next message; without the fields of Tune's own `train`, which cost the driver memory."""
        return {"message": json.dumps(self._task.next_message())}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """End the task that is there and begin another in the same warm process."""
        self._task.end()
        self._task = self._begin(new_config)
        return True

    def cleanup(self) -> None:
        """End the task that is there."""
        self._task.end()

    def _begin(self, config: dict[str, Any]) -> _WarmUp | _Fit:
        task = json.loads(config["assignment"])
        if WARM_UP in task:
            return _WarmUp(task, self.runner, self.static["code_root"])
        code = {"code_root": local_code(self.static["code_root"])}
        assignment = Assignment.from_dict({**self.static, **task, **code})
        return _Fit(assignment, self.runner)


class _WarmUp:
    """A worker's first task: import the training code, and check the sweep's parameter paths against it if asked to."""

    def __init__(self, task: dict[str, Any], runner: str, code_root: str | None) -> None:
        self._request: dict[str, Any] | None = task[WARM_UP]
        self._is_first = task["is_first"]
        self._runner, self._code_root = runner, code_root

    def next_message(self) -> Message:
        faults: list[Fault] = []
        defaults: Params = {}
        reason: str | None = None
        try:
            _load(self._runner)
            if self._runner == DEFAULT_RUNNER:
                faults, defaults, reason = self._check()
        except BaseException as error:  # noqa: BLE001  # the user's environment may be broken in any way
            faults = [Fault(f"a worker cannot import what it has to train: {type(error).__name__}: {error}", "fit")]
            if not self._is_first:
                time.sleep(PAUSE_S)  # the storage of the code may be away
        said = {"faults": [asdict(fault) for fault in faults], "defaults": defaults, "untestable": reason}
        place = {"pid": os.getpid(), "node": get_runtime_context().get_node_id()}
        return {"kind": "ready", "is_first": self._is_first, **place, **said}

    def _check(self) -> tuple[list[Fault], Params, str | None]:
        """The faults and defaults of the signature check, and why nothing can be tested; None where nobody asks."""
        from service.tuning.trial import put_first_on_path

        put_first_on_path(local_code(self._code_root))
        if self._request is None:
            return [], {}, None
        from service.tuning.signature_check import check
        from service.tuning.trial_testable import untestable

        faults, defaults = check(self._request)
        return faults, defaults, None if faults else untestable(self._request["fit"], self._request["parameters"])

    def end(self) -> None:
        """Nothing of it goes on."""


class _Fit:
    """One attempt in a thread, talked to in turns."""

    def __init__(self, assignment: Assignment, runner: str) -> None:
        self._assignment, self._runner = assignment, runner
        self._messages: queue.Queue[Message] = queue.Queue()
        self._verdicts: queue.Queue[bool] = queue.Queue()
        self._thread: threading.Thread | None = None

    def next_message(self) -> Message:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="fit", daemon=True)
            self._thread.start()
        else:
            self._verdicts.put(GO_ON)
        return self._messages.get()

    def end(self) -> None:
        """Ask the fit to stop and wait for it; a process whose fit does not end is of no more use."""
        if self._thread is None:
            return
        self._verdicts.put(END)
        self._thread.join(FIT_END_TIMEOUT_S)
        if self._thread.is_alive():
            sys.stderr.write("the fit did not end when it was asked to; leaving this process\n")
            os._exit(1)

    def _report(self, report: Report) -> bool:
        kind = "tested" if self._assignment.is_test else "report"
        self._messages.put({"kind": kind, **self._who(), **asdict(report)})
        return self._verdicts.get()

    def _who(self) -> Message:
        return {"trial": self._assignment.trial, "attempt": self._assignment.attempt}

    def _run(self) -> None:
        try:
            with unsaved():
                _load(self._runner)(self._assignment, self._report)
        except BaseException as error:  # noqa: BLE001  # user code may raise anything, SystemExit too: it is the trial's failure
            kind, cause = _describe(error)
            self._messages.put({"kind": "failed", **self._who(), "cause": cause, "failure": kind})
        else:
            self._messages.put({"kind": "over", **self._who()})


def _load(path: str) -> Runner:
    module, _, name = path.partition(":")
    runner: Runner = getattr(importlib.import_module(module), name)
    return runner


def _describe(error: BaseException) -> tuple[str, str]:
    """(kind of failure, cause)."""
    from service.tuning.trial import describe_failure  # torch: only when a trial fails

    if isinstance(error, CheckpointError):
        kind = "checkpoint"
    elif isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch has its own
        kind = "memory"
    else:
        kind = "fatal" if isinstance(error, TrialError) else "user"
    return kind, describe_failure(error)
