"""What the signature check is asked, as JSON: by the command line in a process of its own, by a sweep in its worker."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from service.spec.distributions import Choice, Constant, Integer, Parameter, Real
from service.spec.sections import Evaluation

FOLD_KEYS: Final = ("fold_argument", "folds_argument")


def request_of(
    fit: Mapping[str, Any],
    parameters: Mapping[str, Parameter],
    *,
    max_epochs: int,
    code_root: Path | None,
    evaluation: Evaluation | None = None,
) -> dict[str, Any]:
    """The request for `service.tuning.signature_check`, with representative values of each parameter.

    The arguments that `evaluation` gives to a fit are checked like parameters; faults name them by their key there.
    """
    folds = {} if evaluation is None else _fold_arguments(evaluation)
    return {
        "fit": dict(fit),
        "parameters": {**{path: _representatives(p) for path, p in parameters.items()}, **folds},
        "called": {getattr(evaluation, key): f"evaluation.{key}" for key in FOLD_KEYS} if folds else {},
        "when": {path: {k: list(v) for k, v in p.when.items()} for path, p in parameters.items() if p.when},
        "test": False if evaluation is None else evaluation.test,
        "max_epochs": max_epochs,
        "code_root": None if code_root is None else str(code_root.resolve()),
    }


def _fold_arguments(evaluation: Evaluation) -> dict[str, list[Any]]:
    first, last = evaluation.arguments(0), evaluation.arguments(evaluation.folds - 1)
    return {path: list(dict.fromkeys([first[path], last[path]])) for path in first}


def _representatives(parameter: Parameter) -> list[Any]:
    match parameter:
        case Constant():
            return [parameter.value]
        case Choice():
            return list(parameter.values)
        case Integer() | Real():
            return list(dict.fromkeys([parameter.low, parameter.high]))
