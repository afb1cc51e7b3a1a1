"""What may stand under one name of `parameters:`, read into a Parameter and written back in its canonical form."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from service.spec.distributions import JSON, Choice, Constant, Integer, Parameter, Real, identity, is_number
from service.spec.document import Node, Steps
from service.spec.faults import Faults
from service.spec.priors import STRENGTHS, Prior

KEYS: Final = ("value", "values", "weights", "min", "max", "distribution", "step", "prior", "when")
DISTRIBUTIONS: Final = ("uniform", "log_uniform", "int_uniform", "int_log_uniform")
_RANGE_KEYS: Final = ("min", "max", "distribution", "step")
_PRIOR_KEYS: Final = ("around", "strength")
_LARGEST_INTEGER: Final = 2**53  # beyond it, floats skip whole numbers
_LARGEST_REAL: Final = 1e300
_ROUNDING: Final = 1e-9  # 0.35 - 0.1 is a little less than 0.25
_SMALLEST_LOGGED: Final = 1e-300


def parse_parameter(node: Node, steps: Steps, faults: Faults) -> Parameter | None:
    """The parameter that `node` describes, or None after noting what is wrong with it."""
    if isinstance(node.value, list):
        faults.add(
            steps, "a list is no parameter", allowed="{values: [...]} for a choice, {value: [...]} for a constant"
        )
        return None
    if not isinstance(node.value, dict):
        return Constant(node.value) if _is_finite(node, steps, faults) else None
    return _Reader(node, steps, faults).read()


class _Reader:
    """Reads one mapping; every method notes faults and answers None where there are some."""

    def __init__(self, node: Node, steps: Steps, faults: Faults) -> None:
        self._node, self._steps, self._faults = node, steps, faults
        self._before = len(faults)

    def read(self) -> Parameter | None:
        given = self._node.mapping
        for key in given:
            if key not in KEYS:
                self._faults.unknown_key((*self._steps, key), KEYS)
        forms = [form for form in ("value", "values", "min") if form in given or (form == "min" and "max" in given)]
        if not forms:
            self._distribution()
        if len(forms) != 1:
            if len(self._faults) == self._before or len(forms) > 1:
                allowed = "one of: a bare value, {value: ...}, {values: [...]}, {min: ..., max: ...}"
                self._fault((), "one form of parameter is needed", allowed=allowed)
            return None
        when = self._when()
        readers: dict[str, Callable[[], Parameter | None]] = {
            "value": self._constant, "values": self._choice, "min": self._range
        }  # fmt: skip
        parameter = readers[forms[0]]()
        if parameter is not None and not isinstance(parameter, Constant):
            parameter = self._with_prior(parameter)
        if parameter is None or len(self._faults) > self._before:
            return None
        return replace(parameter, when=when)

    def _with_prior(self, parameter: Choice | Integer | Real) -> Parameter | None:
        node = self._node.mapping.get("prior")
        if node is None:
            return parameter
        around, strength = node.mapping.get("around"), node.mapping.get("strength")
        for key in node.mapping:
            if key not in _PRIOR_KEYS:
                self._faults.unknown_key((*self._steps, "prior", key), _PRIOR_KEYS)
        if around is None:
            words = ", ".join(STRENGTHS)
            self._fault(("prior",), "names no value", allowed=f"{{around: a value}}, perhaps with strength: {words}")
        elif not _is_inside(parameter, around.plain()):
            self._fault(("prior", "around"), "is no value of this parameter", allowed=_inside(parameter))
        if strength is not None and strength.value not in STRENGTHS:
            self._faults.unknown_word((*self._steps, "prior", "strength"), STRENGTHS)
        if around is None or len(self._faults) > self._before:
            return None
        prior = Prior(around.plain()) if strength is None else Prior(around.plain(), strength.value)  # type: ignore[arg-type]  # one of STRENGTHS
        return replace(parameter, prior=prior)

    def _fault(self, steps: Steps, message: str, *, allowed: str | None = None) -> None:
        self._faults.add((*self._steps, *steps), message, allowed=allowed)

    def _forbid(self, *keys: str) -> None:
        for key in keys:
            if key in self._node.mapping:
                self._fault((key,), "does not go with this form of parameter")

    def _when(self) -> dict[str, tuple[JSON, ...]]:
        node = self._node.mapping.get("when")
        if node is None:
            return {}
        if not node.mapping:
            self._fault(("when",), "must be a mapping", allowed="{another parameter: its value, or a list of values}")
            return {}
        conditions = {}
        for parent, value in node.mapping.items():
            values = tuple(item.plain() for item in value.items) if isinstance(value.value, list) else (value.plain(),)
            if not values:
                self._fault(("when", parent), "names no value", allowed="a value, or a list of values")
            conditions[parent] = values
        return conditions

    def _constant(self) -> Parameter | None:
        self._forbid("weights", "prior", *_RANGE_KEYS)
        value = self._node.mapping["value"]
        return Constant(value.plain()) if _is_finite(value, (*self._steps, "value"), self._faults) else None

    def _choice(self) -> Parameter | None:
        self._forbid(*_RANGE_KEYS)
        node = self._node.mapping["values"]
        if not node.items:
            self._fault(("values",), "must be a list with at least one value")
            return None
        seen: dict[object, int] = {}
        for i, item in enumerate(node.items):
            _is_finite(item, (*self._steps, "values", i), self._faults)
            first = seen.setdefault(identity(item.plain()), i)
            if first != i:
                self._fault(("values", i), f"stands twice: values[{first}] is the same")
        return Choice(tuple(node.plain()), self._weights(len(node.items)))

    def _weights(self, count: int) -> tuple[float, ...] | None:
        node = self._node.mapping.get("weights")
        if node is None:
            return None
        weights = [item.value for item in node.items]
        if len(weights) != count:
            self._fault(("weights",), "must be a list with one weight per value", allowed=f"{count} numbers above 0")
            return None
        for i, weight in enumerate(weights):
            if not (is_number(weight) and 0 < weight <= _LARGEST_REAL):  # type: ignore[operator]  # is_number checks it
                self._fault(("weights", i), "must be a number above 0; leave a value out that is never to be drawn")
                return None
        return tuple(float(weight) for weight in weights)  # type: ignore[arg-type]  # all are numbers

    def _range(self) -> Parameter | None:
        self._forbid("weights")
        low, high, step = self._number("min"), self._number("max"), self._number("step")
        distribution = self._distribution()
        for key in ("min", "max"):
            if key not in self._node.mapping:
                self._fault((), f"has no {key}", allowed="both min and max")
        if len(self._faults) > self._before or low is None or high is None:
            return None
        if distribution is None:
            whole = isinstance(low, int) and isinstance(high, int) and (step is None or isinstance(step, int))
            distribution = "int_uniform" if whole else "uniform"
        is_integer, log = distribution.startswith("int_"), distribution.endswith("log_uniform")
        self._check_bounds(low, high, step, is_integer=is_integer, log=log)
        if len(self._faults) > self._before:
            return None
        if is_integer:
            return Integer(int(low), int(high), log, 1 if step is None else int(step))
        return self._checked_real(Real(float(low), float(high), log, None if step is None else float(step)))

    def _checked_real(self, parameter: Real) -> Parameter:
        size = parameter.size
        if size is not None and size > _LARGEST_INTEGER:
            self._fault(("step",), "is too small for this range")
        return parameter

    def _number(self, key: str) -> float | None:
        node = self._node.mapping.get(key)
        if node is None:
            return None
        value = node.value
        if is_number(value) and abs(value) <= _LARGEST_REAL:  # type: ignore[arg-type]  # is_number checks it
            return value  # type: ignore[return-value]  # is_number checks it
        hint = "; remove the quotes" if isinstance(value, str) and _looks_like_number(value) else ""
        self._fault((key,), f"must be a number{hint}", allowed=f"a finite number, at most {_LARGEST_REAL:g}")
        return None

    def _distribution(self) -> str | None:
        node = self._node.mapping.get("distribution")
        if node is None:
            return None
        if isinstance(node.value, str) and node.value in DISTRIBUTIONS:
            return node.value
        self._faults.unknown_word((*self._steps, "distribution"), DISTRIBUTIONS)
        return None

    def _check_bounds(self, low: float, high: float, step: float | None, *, is_integer: bool, log: bool) -> None:
        if not low < high:
            hint = "; write the bare value for a constant" if low == high else ""
            self._fault(("min",), f"must be less than max, which is {high:g}{hint}")
        if log and low < (1 if is_integer else _SMALLEST_LOGGED):
            floor = "at least 1" if is_integer else "more than 0"
            self._fault(
                ("min",), f"must be {floor} on a log scale; bounds are real values, not exponents", allowed=floor
            )
        if step is not None and not 0 < step <= (high - low) * (1 + _ROUNDING):
            self._fault(("step",), "must be more than 0 and at most max - min", allowed=f"up to {high - low:g}")
        if is_integer:
            for key, value in (("min", low), ("max", high), ("step", step)):
                if value is not None and (value != int(value) or abs(value) > _LARGEST_INTEGER):
                    message = "must be a whole number" if value != int(value) else "is too large for a whole number"
                    allowed = f"a whole number up to 2^53; {'uniform' if not log else 'log_uniform'} takes any number"
                    self._fault((key,), message, allowed=allowed)


def _is_finite(node: Node, steps: Steps, faults: Faults) -> bool:
    """Notes every number inside `node` that is not finite: no trial could be trained or recorded with it."""
    if isinstance(node.value, float) and not math.isfinite(node.value):
        faults.add(steps, "must be a finite number")
        return False
    below: list[tuple[str | int, Node]] = [*node.mapping.items(), *enumerate(node.items)]
    fine = [_is_finite(child, (*steps, key), faults) for key, child in below]
    return all(fine)


def _looks_like_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _is_inside(parameter: Choice | Integer | Real, value: JSON) -> bool:
    """Whether a prior may point at `value`: between the bounds is enough, on a step it need not be."""
    if isinstance(parameter, Choice):
        return parameter.contains(value)
    return is_number(value) and parameter.low <= value <= parameter.high


def _inside(parameter: Choice | Integer | Real) -> str:
    if isinstance(parameter, Choice):
        return "one of its values"
    return f"a number from {parameter.low:g} to {parameter.high:g}"


def to_data(parameter: Parameter) -> JSON:
    """The canonical form in a sweep file: the inverse of `parse_parameter`."""
    data: dict[str, Any]
    match parameter:
        case Constant():
            if not parameter.when and not isinstance(parameter.value, list | dict):
                return parameter.value
            data = {"value": parameter.value}
        case Choice():
            data = {"values": list(parameter.values)}
            data |= {"weights": list(parameter.weights)} if parameter.weights else {}
        case Integer():
            data = {"min": parameter.low, "max": parameter.high, "distribution": _name("int_", log=parameter.log)}
            data |= {"step": parameter.step} if parameter.step != 1 else {}
        case Real():
            data = {"min": parameter.low, "max": parameter.high, "distribution": _name("", log=parameter.log)}
            data |= {"step": parameter.step} if parameter.step is not None else {}
    if not isinstance(parameter, Constant) and parameter.prior is not None:
        data["prior"] = {"around": parameter.prior.around, "strength": parameter.prior.strength}
    if parameter.when:
        data["when"] = {
            k: v[0] if len(v) == 1 and not isinstance(v[0], list) else list(v) for k, v in parameter.when.items()
        }
    return data


def _name(prefix: str, *, log: bool) -> str:
    return f"{prefix}{'log_' if log else ''}uniform"
