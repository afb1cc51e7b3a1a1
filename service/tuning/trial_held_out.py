"""Tests one fit of the winner in a warm worker: the weights of its best epoch, on data that no trial was shown."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from service.errors import TrialError
from service.tuning.assignment import Assignment, Report
from service.tuning.lightning_config import build, merge
from service.tuning.reporting import number_of
from service.tuning.storage_place import place_of
from service.tuning.trial_checkpoint import verified_path
from service.tuning.trial_testable import untestable


def run_test(assignment: Assignment, report: Callable[[Report], bool], scratch: Path) -> None:
    """Call `report` once, with all numbers that `test_step` and its hooks logged.

    TrialError where there is nothing to test, CheckpointError where the weights are damaged or gone, and whatever the
    user's code raises.
    """
    config = merge(assignment.fit, assignment.params)
    reason = untestable(config, {})
    start = assignment.start
    if reason or start is None:
        raise TrialError(reason or "there are no weights to test")
    path = verified_path(place_of(assignment.storage), start, scratch)
    fit = build(config, seed=assignment.seed, max_epochs=assignment.max_epochs, scratch=scratch)
    began_at = time.perf_counter()
    logged = fit.trainer.test(fit.model, fit.data, ckpt_path=str(path), weights_only=False, verbose=False)
    found = {name: number for one in logged for name, value in one.items() if (number := number_of(value)) is not None}
    report(Report(start.epoch, found, time.perf_counter() - began_at, None, diverged=False))
