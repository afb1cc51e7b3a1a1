"""Says what the classes of a fit can be told and what they log, as a program of its own: it imports user code.

Reads JSON {fit, code_root, tries} from standard input and prints JSON {knobs: [{path, kind, default, choices}],
metrics, trouble}. `kind` is int, float, bool, choice or other. `metrics` are the names that the model's own code logs;
with `tries`, where its text does not name them, those that one batch of training and validation logs. What user code
prints goes to standard error.
"""

from __future__ import annotations

import contextlib
import enum
import inspect
import json
import os
import re
import sys
import tempfile
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

from service.tuning.config_merge import Config
from service.tuning.lightning_config import accepted_arguments, build, import_class

_SECTIONS: Final = ("model", "data", "optimizer")
_LOGGED: Final = re.compile(r"""self\.log\(\s*["']([^"'{}]+)["']""")
_TRY: Final = {"fast_dev_run": True, "enable_progress_bar": False, "enable_model_summary": False, "logger": False}


def knobs(fit: Config) -> list[dict[str, Any]]:
    """Every argument of the classes that `fit` names by their path, with its kind and the value it has without a sweep.

    TrialError, or whatever the user's modules raise, where a class cannot be imported.
    """
    found: list[dict[str, Any]] = []
    for section in _SECTIONS:
        given = fit.get(section)
        body: Config = {"class_path": given} if isinstance(given, str) else given if isinstance(given, dict) else {}
        if "class_path" in body:
            prefix = section if isinstance(given, str) else f"{section}.init_args"
            set_values = body.get("init_args") or {}
            found += [
                {"path": f"{prefix}.{name}", "kind": kind, "default": set_values.get(name, default), "choices": choices}
                for name, kind, default, choices in _arguments(body["class_path"])
            ]
    return found


def _arguments(class_path: str) -> Iterator[tuple[str, str, Any, list[Any]]]:
    kind = import_class(class_path)
    taken = (accepted_arguments(class_path) or frozenset()) - {"params", "optimizer"}  # which Lightning gives
    seen: set[str] = set()
    for owner in kind.__mro__:  # a class that passes **kwargs on takes its parent's arguments, too
        if "__init__" not in vars(owner) or owner is object:
            continue
        hints: dict[str, Any] = {}
        with contextlib.suppress(Exception):  # a hint that cannot be resolved is no knob
            hints = typing.get_type_hints(vars(owner)["__init__"])
        for name, parameter in inspect.signature(vars(owner)["__init__"]).parameters.items():
            is_named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
            if is_named and name in taken and name not in seen:
                seen.add(name)
                default = None if parameter.default is parameter.empty else parameter.default
                yield name, *_described(hints.get(name, type(default)), default)


def _described(hint: Any, default: Any) -> tuple[str, Any, list[Any]]:  # noqa: ANN401  # any annotation, any value
    if typing.get_origin(hint) is Literal:
        return "choice", _plain(default), [value for value in typing.get_args(hint) if _plain(value) is not None]
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return "choice", default.name if isinstance(default, enum.Enum) else None, [member.name for member in hint]
    options = [option for option in typing.get_args(hint) if option is not type(None)]
    if options and isinstance(default, int | float):  # as in `int | tuple[int, int]`
        hint = type(default)
    elif len(options) == 1:  # as in `float | None`
        return _described(options[0], default)
    is_number = isinstance(hint, type) and hint in (int, float, bool)
    return (hint.__name__ if is_number else "other"), _plain(default), []


def _plain(value: Any) -> str | int | float | bool | None:  # noqa: ANN401  # any default
    return value if isinstance(value, str | int | float | bool) else None


def logged_names(class_path: str) -> list[str]:
    """The names that the class's own code, and that of its parents, logs as plain text."""
    found: list[str] = []
    for owner in import_class(class_path).__mro__:
        if not owner.__module__.startswith(("pytorch_lightning.", "torch.", "builtins")):
            with contextlib.suppress(OSError, TypeError):  # no source, as where it was made at run time
                found += _LOGGED.findall(inspect.getsource(owner))
    return list(dict.fromkeys(found))


def _tried_names(fit: Config) -> list[str]:
    """What one batch of training and validation logs."""
    config = {**fit, "trainer": {**(fit.get("trainer") or {}), **_TRY}}
    with tempfile.TemporaryDirectory() as scratch:
        made = build(config, seed=0, max_epochs=1, scratch=Path(scratch))
        made.trainer.fit(made.model, made.data)
    return [str(name) for name in made.trainer.callback_metrics]


def answer(request: Config) -> dict[str, Any]:
    """What is known of the fit of a request; `trouble` says what could not be found out, and why."""
    fit = request["fit"]
    said: dict[str, Any] = {"knobs": [], "metrics": [], "trouble": ""}
    model = fit.get("model")
    class_path = model.get("class_path") if isinstance(model, dict) else model
    try:
        said["knobs"] = knobs(fit)
        said["metrics"] = logged_names(class_path) if class_path else []
        if not any(name.startswith("val") for name in said["metrics"]) and request.get("tries"):
            said["metrics"] = _tried_names(fit)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  # user code that is imported or run here may raise or exit
        said["trouble"] = f"{type(error).__name__}: {error}"
    return said


def main() -> None:
    """Answer one request from standard input."""
    out = os.dup(1)
    os.dup2(2, 1)  # what user code prints is no part of the answer
    request = json.load(sys.stdin)
    if request.get("code_root"):
        sys.path.insert(0, request["code_root"])
    said = answer(request)
    with os.fdopen(out, "w", encoding="utf-8") as stream:
        json.dump(said, stream)


if __name__ == "__main__":
    main()
