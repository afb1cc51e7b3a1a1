"""Checks a sweep's parameter paths against real signatures, as a program of its own: the checks import user code.

Reads JSON {fit, parameters: {path: [values]}, when: {path: {parent: [values]}}, called: {path: name},
max_epochs, code_root, test} from standard input and prints JSON {faults: [{path, message, given, allowed, nearest}],
defaults: {path: value}}. `called` gives paths that are no parameters another name in faults. Models are not
instantiated, but modules that a config names are imported. Whatever user code prints goes to standard error.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from jsonargparse import ArgumentError

from service.errors import Fault, TuneyardError
from service.tuning.config_merge import Config
from service.tuning.events import Params
from service.tuning.lightning_config import RUN_KEYS, accepted_arguments, import_class, merge, parser_of
from service.tuning.signature_faults import Explanation, explain, importable, locate, nearest, sections, without
from service.tuning.trial_testable import test_faults

_OURS: Final = {
    "trainer.max_epochs": "set scheduler.max_epochs instead",
    "trainer.default_root_dir": "each trial gets a folder of its own",
    "seed_everything": "set the sweep's seed instead",
    "ckpt_path": "a trial cannot choose where it starts",
    "cli": "one class parses all trials",
}
_MAX_FIT_FAULTS: Final = 20


class SignatureCheck:
    """All checks of one sweep. `parameters`: representative values of each path; `when`: its conditions."""

    def __init__(self, fit: Config, parameters: Mapping[str, Sequence[Any]], when: Mapping[str, Any]) -> None:
        self._fit, self._parameters, self._when = fit, parameters, when
        self._parser = parser_of(fit.get("cli"))
        self._known: dict[str, Explanation | None] = {}
        self._left_out: set[str] = set(_OURS)  # parameters that would hide what is wrong with others
        self._broken: list[str] = []  # sections whose class itself is refused: what is set in them cannot be checked

    def faults(self) -> list[Fault]:
        """Every fault: those of the fit itself first, then by parameter in the order of the file."""
        found = self._fit_faults()
        for path in self._parameters:
            if not path.startswith(tuple(self._broken)):
                found += self._parameter_faults(path)
        return list(dict.fromkeys(found))

    def defaults(self) -> Params:
        """The values that the parameters have without a sweep, as far as fit and signatures tell them."""
        config = {name: value for name, value in self._fit.items() if name not in RUN_KEYS}
        try:
            parsed = self._parser.parse_object(json.loads(json.dumps(config))).as_dict()
        except (Exception, SystemExit):  # noqa: BLE001  # whatever user code raises: then there are no defaults
            return {}
        found: Params = {}
        for path in self._parameters:
            with contextlib.suppress(KeyError, TypeError, IndexError, ValueError):  # not in this fit
                found[path] = _value(parsed, path)
        return {path: value for path, value in found.items() if isinstance(value, str | int | float | bool)}

    def _fit_faults(self) -> list[Fault]:
        found: list[Fault] = []
        params = self._complete({})
        while len(found) < _MAX_FIT_FAULTS and (reason := self._refusal(params)) is not None:
            config = merge(self._fit, params)
            path = locate(config, reason)
            if path in params:
                self._left_out.add(path)  # its own check will report it
                del params[path]
                continue
            if path is None:
                found += [self._fault("fit", reason, None)] if self._is_fits_own(reason, params) else []
                break
            found.append(self._fault(f"fit.{path}", reason, _value(config, path)))
            self._fit = without(self._fit, path)
            if "class_path" in str(_value(config, path)):
                self._broken.append(f"{path}.")
        return found

    def _is_fits_own(self, reason: Explanation, params: Params) -> bool:
        is_consequence = bool(self._broken) and reason.reason.startswith("required and not given")
        return not is_consequence and all(
            self._refusal({k: v for k, v in params.items() if k != path}) == reason for path in params
        )

    def _parameter_faults(self, path: str) -> Iterator[Fault]:
        if path in _OURS:
            yield Fault(f"is not for a search: {_OURS[path]}", f"parameters.{path}")
            return
        for value in self._parameters[path]:
            for fixed in self._cases(path, value):
                params = self._complete(fixed)
                reason = self._refusal(params)
                others = {name: given for name, given in params.items() if name != path}
                if reason is not None and self._is_about(path, reason) and self._refusal(others) != reason:
                    yield self._with_advice(path, fixed, self._fault(f"parameters.{path}", reason, value))
                    if reason.is_unknown_name:
                        return  # the same for every value
                    break

    def _is_about(self, path: str, reason: Explanation) -> bool:
        mine = path.rpartition(".")[2]
        names = {name.rpartition(".")[2] for name in self._parameters}
        return not reason.is_unknown_name or reason.key == mine or reason.key not in names

    def _with_advice(self, path: str, fixed: Params, fault: Fault) -> Fault:
        owners = [name for name in fixed if _owns(name, path) and len(self._parameters[name]) > 1]
        if not owners or path in self._when:
            return fault
        advice = f"; if only some classes take it, add `when: {{{owners[0]}: <those>}}`"
        return dataclasses.replace(fault, message=fault.message + advice)

    def _cases(self, path: str, value: object) -> Iterator[Params]:
        owners = [name for name in self._parameters if name != path and _owns(name, path)]
        pinned = self._pinned(path, value)
        choices = [self._owner_values(owner, path) for owner in owners]
        for values in itertools.product(*choices):
            yield {**pinned, **dict(zip(owners, values, strict=True))}

    def _owner_values(self, owner: str, path: str) -> list[Any]:
        allowed = self._when.get(path, {}).get(owner)
        return [value for value in self._parameters[owner] if allowed is None or value in allowed]

    def _pinned(self, path: str, value: object) -> Params:
        pinned: Params = {path: value}
        for parent, allowed in self._when.get(path, {}).items():
            possible = [v for v in self._parameters.get(parent, ()) if v in allowed] or list(allowed)
            pinned = {**self._pinned(parent, possible[0]), **pinned}
        return pinned

    def _complete(self, fixed: Params) -> Params:
        params = dict(fixed)
        while True:
            wanted = (p for p in self._parameters if p not in params and p not in self._left_out)
            missing = [path for path in wanted if self._is_active(path, params)]
            if not missing:
                return params
            params[missing[0]] = self._parameters[missing[0]][0]

    def _is_active(self, path: str, params: Params) -> bool:
        conditions = self._when.get(path, {}).items()
        return all(parent in params and params[parent] in allowed for parent, allowed in conditions)

    def _refusal(self, params: Params) -> Explanation | None:
        try:
            merged = merge(self._fit, params)
        except TuneyardError as error:
            return Explanation(str(error))
        config = {name: value for name, value in merged.items() if name not in RUN_KEYS}
        text = json.dumps(config, sort_keys=True, default=repr)
        if text not in self._known:
            self._known[text] = self._parse(config)
        return self._known[text]

    def _parse(self, config: Config) -> Explanation | None:
        try:
            self._parser.parse_object(json.loads(json.dumps(config)))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001  # user code that is imported here may raise or exit as it likes
            if isinstance(error, ArgumentError):
                return explain(str(error))
            return Explanation(f"{type(error).__name__}: {error}", _unimportable(config))
        return None

    def _fault(self, path: str, reason: Explanation, given: object) -> Fault:
        names = self._names(reason) if reason.is_unknown_name else ()
        allowed = ", ".join(sorted(names)) or reason.allowed
        near = nearest(reason.key.split(".")[0], names) if reason.key else None
        if not names and allowed is None:
            allowed, found = importable(reason.reason)
            near = near or found
        where = f" by {reason.owner}" if reason.owner and reason.is_unknown_name else ""
        return Fault(reason.reason + where, path, given=_short(given), allowed=allowed, nearest=near)

    def _names(self, reason: Explanation) -> list[str]:
        if reason.owner is not None and "." in reason.owner:
            return [name for name in accepted_arguments(reason.owner) or () if name not in ("params", "optimizer")]
        keys = list(self._parser.get_defaults().keys(branches=True))
        prefix = "" if reason.owner is None else f"{reason.owner}."
        inner = {key.removeprefix(prefix).split(".")[0] for key in keys if key.startswith(prefix) and key != prefix}
        return sorted(inner - {"config"})


def _owns(class_path: str, path: str) -> bool:
    owner = class_path.removesuffix(".class_path")
    return owner != class_path and path.startswith(f"{owner}.init_args.")


def _unimportable(config: Config) -> str | None:
    for path, section in sections(config):
        try:
            import_class(str(section.get("class_path", "builtins.object")))
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001  # as in `_parse`, which has the cause already
            return path
    return None


def _value(config: Config, path: str) -> object:
    node: Any = config
    for key in path.split("."):
        node = node[int(key)] if isinstance(node, list) else node[key]
    return node


def _short(value: object) -> str | None:
    text = json.dumps(value, default=repr)
    return None if value is None else text if len(text) <= 80 else f"{text[:77]}..."  # noqa: PLR2004  # one line


def _called(fault: Fault, name: str | None) -> Fault:
    """`fault` of an argument that a fold's fit is given, under the key of the sweep file that says so."""
    if name is None:
        return fault
    message = f"{fault.message}; with folds each fit sets it, so the class has to take it, or {name} another one"
    return dataclasses.replace(fault, path=name, message=message)


def check(request: Mapping[str, Any]) -> tuple[list[Fault], Params]:
    """All faults of a request (see the module's text), and the defaults; an import that fails is a fault."""
    try:
        defaults = SignatureCheck(request["fit"], request["parameters"], {}).defaults()
        found = SignatureCheck(request["fit"], request["parameters"], request.get("when", {})).faults()
        called = {f"parameters.{path}": name for path, name in request.get("called", {}).items()}
        if request.get("test") is True and not found:
            found = test_faults(request["fit"], request["parameters"])
        return [_called(fault, called.get(fault.path)) for fault in found], defaults
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  # the user's CLI class may raise anything while it is imported
        path = "fit.cli" if request["fit"].get("cli") else "fit"
        return [Fault(f"{type(error).__name__}: {error}", path)], {}


def main() -> None:
    """Answer one request from standard input."""
    answer = os.dup(1)
    os.dup2(2, 1)  # what user code prints is no part of the answer
    request = json.load(sys.stdin)
    if request.get("code_root"):
        sys.path.insert(0, request["code_root"])
    found, defaults = check(request)
    faults = [dataclasses.asdict(fault) for fault in found]
    with os.fdopen(answer, "w", encoding="utf-8") as stream:
        json.dump({"faults": faults, "defaults": defaults}, stream)


if __name__ == "__main__":
    main()
