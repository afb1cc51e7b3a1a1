"""A first search space from the names, types and defaults of arguments, as an experienced person would write it down.

Rules, not knowledge of the model: what no rule fits stays at its default and is named, so that a person may add it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

Entry = dict[str, Any]  # a parameter as in a sweep file
_RATE_SPREAD: Final = 30.0  # a learning rate is searched between its default divided and multiplied by it
_LONGEST_CHOICE: Final = 8


@dataclass(frozen=True, slots=True)
class Knob:
    """An argument of a class that a fit names. `kind`: int, float, bool, choice or other; `default` None: not known."""

    path: str
    kind: str
    default: Any = None
    choices: tuple[Any, ...] = ()

    @property
    def name(self) -> str:
        """The argument's own name."""
        return self.path.rpartition(".")[2]


class Rule(NamedTuple):
    """Arguments of which kind and name it is for, and what it makes of one; None for nothing after all."""

    kinds: tuple[str, ...]
    names: re.Pattern[str]
    entry: Callable[[Knob], Entry | None]


@dataclass(frozen=True, slots=True)
class StartingSpace:
    """Parameters by path, and the paths of the arguments that stay as they are."""

    parameters: Mapping[str, Entry]
    left: tuple[str, ...] = field(default=())


def starting_space(knobs: Iterable[Knob]) -> StartingSpace:
    """The parameters that the rules make of `knobs`, in the order of these."""
    parameters: dict[str, Entry] = {}
    left: list[str] = []
    for knob in knobs:
        entry = _entry(knob)
        if entry is None:
            left.append(knob.path)
        else:
            parameters[knob.path] = entry
    return StartingSpace(parameters, tuple(left))


def _entry(knob: Knob) -> Entry | None:
    if _GIVEN_BY_DATA.search(knob.name):
        return None
    for rule in _RULES:
        if knob.kind in rule.kinds and rule.names.search(knob.name):
            return rule.entry(knob)
    return None


def _learning_rate(knob: Knob) -> Entry:
    default = knob.default or 3e-3
    return _log(default / _RATE_SPREAD, max(default, min(1.0, default * _RATE_SPREAD)))


def _log(low: float, high: float) -> Entry:
    return {"min": _rounded(low), "max": _rounded(high), "distribution": "log_uniform"}


def _rounded(value: float) -> float:
    return float(f"{value:.1g}")


def _between(low: float, high: float) -> Callable[[Knob], Entry]:
    return lambda knob: {"min": min(low, knob.default or low), "max": max(high, knob.default or high)}


def _log_between(low: float, high: float) -> Callable[[Knob], Entry]:
    return lambda knob: _log(min(low, knob.default or low), max(high, knob.default or high))


def _doublings(*usual: int) -> Callable[[Knob], Entry]:
    """Powers of two around the default, or the usual ones where there is none."""

    def entry(knob: Knob) -> Entry:
        if not knob.default or knob.default < 1:
            return {"values": list(usual)}
        values = {max(1, knob.default // 2), knob.default, knob.default * 2, knob.default * 4}
        return {"values": sorted(values)}

    return entry


def _a_few(knob: Knob) -> Entry:
    default = knob.default or 2
    return {"min": max(1, default - 2), "max": default + 2}


def _odd(knob: Knob) -> Entry:
    return {"values": sorted({3, 5, 7, *([knob.default] if knob.default else [])})}


def _heads(knob: Knob) -> Entry:
    """Divisors of the default alone: a width that they all divide is there only where it divides the default's."""
    default = knob.default or 4
    return {"values": [value for value in (1, 2, 4, 8, 16) if default % value == 0] or [default]}


def _choices(knob: Knob) -> Entry | None:
    is_short = 1 < len(knob.choices) <= _LONGEST_CHOICE
    return {"values": list(knob.choices)} if is_short else None


def _either(_knob: Knob) -> Entry:
    return {"values": [False, True]}


def _named(*patterns: str) -> re.Pattern[str]:
    return re.compile(rf"(^|_)({'|'.join(patterns)})(_|$|\d)")


_GIVEN_BY_DATA: Final = re.compile(
    r"^(in_|input_|out_|output_|num_|n_)?(channels|classes|features|targets|labels|vocab(ulary)?(_size)?)$"
    r"|^(in|input|output|out)_|seed|fold|share|workers|folder|path|root|verbose|(^|_)(max_)?(epochs|steps)($|_)"
)
_WHOLE, _NUMBER = ("int",), ("float", "int")
_RULES: Final = (
    Rule(("float",), _named("lr", "learning_rate"), _learning_rate),
    Rule(("float",), _named("weight_decay", "l1", "l2", "decay"), _log_between(1e-6, 1e-1)),
    Rule(("float",), _named("momentum"), _between(0.5, 0.98)),
    Rule(("float",), _named("dropout", "drop", "drop_rate", "drop_path"), _between(0.0, 0.5)),
    Rule(("float",), _named("smoothing", "mixup", "cutmix"), _between(0.0, 0.3)),
    Rule(("float",), _named("temperature"), _log_between(0.5, 8.0)),
    Rule(_WHOLE, _named("batch_size"), _doublings(32, 64, 128, 256)),
    Rule(_WHOLE, _named("heads"), _heads),
    Rule(_WHOLE, _named("kernel", "kernel_size", "filter_size"), _odd),
    Rule(_WHOLE, _named("depth", "layers", "blocks", "stages"), _a_few),
    Rule(
        _WHOLE,
        _named(
            "width", "hidden", "dim", "(hidden|layer)_size", "units", "filters", "channels", "features", "embedding"
        ),
        _doublings(16, 32, 64, 128),
    ),
    Rule(("bool",), _named("bidirectional", "nesterov", "residual", "norm", "use", "amsgrad"), _either),
    Rule(("choice",), re.compile(""), _choices),
)
