"""What the signature check is asked, as JSON: by the command line in a process of its own, by a sweep in its worker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from service.distributions import Choice, Constant, Integer, Parameter, Real


def request_of(
    fit: Mapping[str, Any], parameters: Mapping[str, Parameter], *, max_epochs: int, code_root: Path | None
) -> dict[str, Any]:
    """The request for `service.tuning.signature_check`, with representative values of each parameter."""
    return {
        "fit": dict(fit),
        "parameters": {path: _representatives(parameter) for path, parameter in parameters.items()},
        "when": {path: {k: list(v) for k, v in p.when.items()} for path, p in parameters.items() if p.when},
        "max_epochs": max_epochs,
        "code_root": None if code_root is None else str(code_root.resolve()),
    }


def _representatives(parameter: Parameter) -> list[Any]:
    match parameter:
        case Constant():
            return [parameter.value]
        case Choice():
            return list(parameter.values)
        case Integer() | Real():
            return list(dict.fromkeys([parameter.low, parameter.high]))
