"""Checks parameter paths against real signatures in a process of its own: the command line stays light and safe.

The other process imports torch and the user's code; this one imports neither.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from service.errors import Fault
from service.spec.distributions import Parameter
from service.spec.sections import Evaluation
from service.sweeps.apart import ask
from service.tuning.signature_request import request_of

TIMEOUT_S: Final = 60.0
_TAIL_LINES: Final = 5
_FIELDS: Final = ("message", "path", "given", "allowed", "nearest")


@dataclass(frozen=True, slots=True)
class Signatures:
    """What the real signatures say: the faults, and the values that the parameters have without a sweep."""

    faults: tuple[Fault, ...] = ()
    defaults: dict[str, Any] = field(default_factory=dict)


def check_signatures(
    fit: Mapping[str, Any],
    parameters: Mapping[str, Parameter],
    *,
    max_epochs: int,
    code_root: Path | None = None,
    timeout_s: float = TIMEOUT_S,
    evaluation: Evaluation | None = None,
) -> Signatures:
    """Every parameter path or value that the classes named in `fit` would not take, and the defaults.

    A check that crashes, prints nonsense or takes longer than `timeout_s` is a fault, too: never an exception.
    """
    request = request_of(fit, parameters, max_epochs=max_epochs, code_root=code_root, evaluation=evaluation)
    try:
        finished = ask("service.tuning.signature_check", request, code_root, timeout_s)
    except subprocess.TimeoutExpired:
        message = f"the signature check took longer than {timeout_s:g} s: does importing the code start a training?"
        return Signatures((Fault(message, "fit", allowed="importing a module must not train, wait or download"),))
    return _read(finished)


def _read(finished: subprocess.CompletedProcess[str]) -> Signatures:
    try:
        answer: Mapping[str, Any] = json.loads(finished.stdout)
        faults = tuple(Fault(**{name: fault[name] for name in _FIELDS}) for fault in answer["faults"])
        return Signatures(faults, dict(answer["defaults"]))
    except (ValueError, KeyError, TypeError):
        words = finished.stderr.strip().splitlines()[-_TAIL_LINES:]
        cause = f"ended with code {finished.returncode}" if finished.returncode else "gave no answer"
        message = f"the process that imports the code of this sweep {cause}"
        return Signatures((Fault(message, "fit", given="; ".join(words) or None, allowed="code that can be imported"),))
