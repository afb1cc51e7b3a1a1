"""Trains one attempt of a trial in a warm worker: configuration to Lightning objects to fit; no ray in it.

Same seed and parameters give the same losses, however many trials the process has served before, and an attempt that
starts from a checkpoint goes on as if it had never been interrupted, except for what its parameters changed.
"""

from __future__ import annotations

import contextlib
import gc
import os
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Final

import torch
from pytorch_lightning import Callback

from service.errors import MissingMetricError, TrialError, TuneyardError
from service.tuning.assignment import Assignment, Report
from service.tuning.lightning_config import Fit, build, merge, save_config
from service.tuning.patience import patiently
from service.tuning.reporting import ReportCallback
from service.tuning.storage_place import open_storage, place_of
from service.tuning.sweep_folder import TRIAL_CONFIG, TRIAL_LOG
from service.tuning.trial_checkpoint import verified_path
from service.tuning.trial_held_out import run_test
from service.tuning.trial_log import captured_output

__all__ = ["Assignment", "Report", "describe_failure", "run_attempt"]
_TRACEBACK_LINES: Final = 20


def run_attempt(assignment: Assignment, report: Callable[[Report], bool]) -> None:
    """Train `assignment`, calling `report` once per validated epoch, after its checkpoint (if any) is written.

    One that is a test is tested instead (see `trial_held_out.run_test`).

    `report` answers whether to go on; it may raise SystemExit to end the fit cleanly. Raises MissingMetricError where a
    wanted metric was not logged, TrialError for a bad configuration, checkpoint or metric, and whatever the user's code
    raises. What is printed meanwhile goes to `logs/trial-<n>.log`.
    """
    put_first_on_path(assignment.code_root)
    threads = max(1, int(assignment.cpus))
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    with _own_garbage():
        _attempt(assignment, report)


def _attempt(assignment: Assignment, report: Callable[[Report], bool]) -> None:
    title = f"trial {assignment.trial}, {'held-out test' if assignment.is_test else f'attempt {assignment.attempt}'}"
    name = TRIAL_LOG.format(trial=assignment.trial)
    with (
        open_storage(assignment.storage).growing(name) as log_path,
        captured_output(log_path, title) as log,
        tempfile.TemporaryDirectory(prefix="tuneyard-") as scratch,
    ):
        try:
            with warnings.catch_warnings():
                for text in _KNOWN_WARNINGS:
                    warnings.filterwarnings("ignore", message=text)
                if assignment.is_test:
                    run_test(assignment, report, Path(scratch))
                else:
                    _train(assignment, ReportCallback(assignment, report, log), Path(scratch))
        except SystemExit as error:
            msg = f"the training code called sys.exit({error.code!r})"
            raise TrialError(msg) from error
        except BaseException:
            traceback.print_exc()
            raise


@contextlib.contextmanager
def _own_garbage() -> Iterator[None]:
    # Trainer and model refer to each other, so only a collection frees a trial's memory, on an accelerator too. Setting
    # aside what existed before makes that take a millisecond instead of a tenth of a second.
    gc.freeze()
    try:
        yield
    finally:
        gc.collect()
        gc.unfreeze()


def _train(assignment: Assignment, callback: ReportCallback, scratch: Path) -> None:
    start = assignment.start
    given = assignment.fit.get("ckpt_path")
    path = given if start is None else str(verified_path(place_of(assignment.storage), start, scratch))
    config = merge(assignment.fit, assignment.params)
    fit = build(config, seed=assignment.seed, max_epochs=assignment.max_epochs, scratch=scratch)
    _save_config(assignment, fit)
    callbacks: list[Callback] = fit.trainer.callbacks  # type: ignore[attr-defined]  # set by a connector
    callbacks.append(callback)
    fit.trainer.fit(fit.model, datamodule=fit.data, ckpt_path=path, weights_only=False if path else None)
    _check_reported(fit, callback)
    fit.release_data()


def _save_config(assignment: Assignment, fit: Fit) -> None:
    """Leave the resolved config in the sweep's storage, as soon as that takes it."""
    name = TRIAL_CONFIG.format(trial=assignment.trial)
    storage = open_storage(assignment.storage)
    patiently(lambda: storage.leave(name, lambda path: save_config(fit.config, path)), "saving the config")


_KNOWN_WARNINGS: Final = (
    r"(?s).*(deprecated\s+in\s+v4|JsonargparseDeprecationWarning)",  # LightningCLI 2.6 uses what jsonargparse renamed
    r".*does not have many workers.*",  # each trial has the CPUs that the sweep gives it
    r".*`?isinstance\(treespec, LeafSpec\)`? is deprecated.*",  # Lightning 2.6 with torch 2.13
    r".*`.*configure_optimizers` will be overridden by.*",  # that is what an `optimizer:` section is for
    r".*GPU available but not used.*",
    r"The number of training batches.*",  # the logging interval is ours
    r"Be aware that when using `ckpt_path`, callbacks used to create.*ReportCallback.*",  # a test reports nothing by it
)


def _check_reported(fit: Fit, callback: ReportCallback) -> None:
    if callback.reports or _resumed_at_end(callback):
        return
    names = ", ".join(map(repr, callback.assignment.metrics))
    msg = (
        f"the fit ended without a validated epoch, so nothing reported {names}; it logged "
        f"{', '.join(map(repr, fit.trainer.callback_metrics)) or 'nothing'}. Look at check_val_every_n_epoch, "
        "limit_val_batches and max_steps"
    )
    raise MissingMetricError(msg)


def _resumed_at_end(callback: ReportCallback) -> bool:
    start = callback.assignment.start
    return start is not None and start.epoch >= callback.assignment.max_epochs


@cache
def put_first_on_path(code_root: str | None) -> None:
    if code_root is not None:
        root = str(Path(code_root).resolve())
        sys.path[:] = [root, *(entry for entry in sys.path if entry != root)]


def describe_failure(exc: BaseException) -> str:
    """A short cause, then the last 20 lines of the traceback from the user's point of view.

    Frames of Tuneyard, Lightning and torch above the user's first one are left out. Tuneyard's own errors explain
    themselves: their text is returned as it is.
    """
    if isinstance(exc, TuneyardError):
        return str(exc)
    cause = str(exc).strip().splitlines()
    head = f"{type(exc).__name__}: {cause[0]}" if cause else type(exc).__name__
    frames = traceback.extract_tb(exc.__traceback__)
    theirs = [i for i, frame in enumerate(frames) if _is_users(frame.filename)]
    shown = frames[theirs[0] :] if theirs else frames
    lines = "".join(traceback.format_list(shown)).rstrip().splitlines()
    return "\n".join([head, *lines[-_TRACEBACK_LINES:]])


def _is_users(filename: str) -> bool:
    ours = str(Path(__file__).resolve().parent)
    return not filename.startswith(ours) and f"{os.sep}site-packages{os.sep}" not in filename and "<" not in filename
