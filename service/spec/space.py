"""The search space: which parameters a trial has, when, and every way to draw, check or count combinations; pure."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from service.spec.distributions import JSON, Choice, Constant, Integer, Parameter, Real, identity
from service.spec.document import shown

if TYPE_CHECKING:
    import numpy as np

__all__ = ["JSON", "Choice", "Constant", "Integer", "Parameter", "Params", "Real", "Space", "find_cycle", "identity"]

Params: TypeAlias = dict[str, Any]
MAX_BRANCHES: Final = 5_000


class Space:
    """Parameters by name, in an order in which each comes after those its condition names and after its prefixes.

    A parameter is active when all parents in its `when` are active with one of the values named there. A set of
    params holds exactly the active ones, constants included. ValueError where conditions go round in a circle.
    """

    def __init__(self, parameters: Mapping[str, Parameter]) -> None:
        self._parameters = {name: parameters[name] for name in _parents_first(parameters)}
        self._dimensions = [name for name, p in self._parameters.items() if p.kind != "constant"]
        self._conditions = {
            name: {parent: frozenset(map(identity, values)) for parent, values in p.when.items()}
            for name, p in self._parameters.items()
        }

    @property
    def names(self) -> tuple[str, ...]:
        """Every parameter, constants included, parents before children."""
        return tuple(self._parameters)

    @property
    def dimension(self) -> int:
        """How many parameters are no constants: the length of `to_unit`."""
        return len(self._dimensions)

    @property
    def dimensions(self) -> tuple[str, ...]:
        """The parameters that are no constants, in the order of `to_unit`."""
        return tuple(self._dimensions)

    def __getitem__(self, name: str) -> Parameter:
        return self._parameters[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)

    def __contains__(self, name: object) -> bool:
        return name in self._parameters

    def items(self) -> Iterator[tuple[str, Parameter]]:
        """(name, parameter) of each, parents before children."""
        return iter(self._parameters.items())

    def is_active(self, name: str, params: Mapping[str, JSON]) -> bool:
        """Whether the condition of `name` is met by `params`, which hold active parameters only."""
        return all(
            parent in params and identity(params[parent]) in values for parent, values in self._conditions[name].items()
        )

    def sample(self, rng: np.random.Generator) -> Params:
        """One independent draw; takes one random number per active parameter that is no constant."""
        params: Params = {}
        for name, parameter in self._parameters.items():
            if self.is_active(name, params):
                params[name] = parameter.from_unit(float(rng.random()) if parameter.kind != "constant" else 0.5)
        return params

    def contains(self, params: Mapping[str, JSON]) -> bool:
        """Whether `params` hold exactly the active parameters, each inside its bounds."""
        return not self.problems(params)

    def problems(self, params: Mapping[str, JSON]) -> list[str]:
        """Everything that keeps `params` out of the space, one sentence each."""
        found = [f"{name} is not a parameter" for name in params if name not in self._parameters]
        known = {name: params[name] for name in self._parameters if name in params}
        for name, parameter in self._parameters.items():
            if not self.is_active(name, known):
                found += [f"{name} is given, but its condition is not met"] if name in known else []
                known.pop(name, None)
            elif name not in known:
                found.append(f"{name} is missing")
            elif not parameter.contains(known[name]):
                found.append(f"{name} cannot be {shown(known[name])}: {describe(parameter)}")
        return found

    def to_unit(self, params: Mapping[str, JSON]) -> list[float]:
        """A point of the unit cube, one number per name in `dimensions`; NaN where inactive."""
        return [self._parameters[n].to_unit(params[n]) if n in params else math.nan for n in self._dimensions]

    def from_unit(self, u: Sequence[float]) -> Params:
        """The params at a point of the unit cube: inactive ones dropped, NaN read as the middle, always in bounds."""
        at = dict(zip(self._dimensions, u, strict=True))
        params: Params = {}
        for name, parameter in self._parameters.items():
            if self.is_active(name, params):
                params[name] = parameter.from_unit(float(at.get(name, 0.5)))
        return params

    @property
    def is_finite(self) -> bool:
        """Whether the space has a countable number of points."""
        return all(p.size is not None for p in self._parameters.values())

    @property
    def size(self) -> int | None:
        """How many different params there are, counted as `grid_size` counts; None where that is infinite."""
        return self._count(None) if self.is_finite else None

    def grid_size(self, points: int) -> int:
        """The length of `grid(points)`, without walking it.

        Exact, except where conditions branch more than 5,000 ways, or log-scaled numbers have very many points: then
        it is an upper bound.
        """
        return self._count(points)

    def grid(self, points: int) -> Iterator[Params]:
        """Every combination of the parameters' grid values, the last parameter fastest; each exactly once, lazily."""
        names = list(self._parameters)
        values = {name: p.grid_values(points) for name, p in self._parameters.items()}

        def walk(i: int, params: Params) -> Iterator[Params]:
            while i < len(names) and not self.is_active(names[i], params):
                i += 1
            if i == len(names):
                yield dict(params)
                return
            for value in values[names[i]]:
                yield from walk(i + 1, {**params, names[i]: value})

        return walk(0, {})

    def _count(self, points: int | None) -> int:
        counter = _Counter(self, points)
        return math.prod(counter.count(component) for component in self._components())

    def _components(self) -> list[list[str]]:
        """The parameters in groups that no condition links, each in the order of the space."""
        group = {name: name for name in self._parameters}

        def root(name: str) -> str:
            while group[name] != name:
                group[name] = group[group[name]]
                name = group[name]
            return name

        for name, conditions in self._conditions.items():
            for parent in conditions:
                group[root(name)] = root(parent)
        components: dict[str, list[str]] = {}
        for name in self._parameters:
            components.setdefault(root(name), []).append(name)
        return list(components.values())


class _TooManyBranchesError(Exception):
    """Counting would take too long."""


class _Counter:
    """Counts combinations of parameters that conditions link: branches over parents only, and multiplies the rest."""

    def __init__(self, space: Space, points: int | None) -> None:
        self._space, self._points, self._most = space, points, _MOST_VALUES // max(1, len(space))
        self._left = MAX_BRANCHES
        self._sizes = {name: _values(p, points, most=self._most) for name, p in space.items()}
        named: dict[str, dict[Hashable, JSON]] = {}
        for parameter in (space[name] for name in space):
            for parent, values in parameter.when.items():
                named.setdefault(parent, {}).update({identity(v): v for v in values})
        self._named = {parent: self._possible(parent, values) for parent, values in named.items()}

    def count(self, names: Sequence[str]) -> int:
        """The combinations of `names`, which no condition links to other parameters."""
        try:
            return self._walk(names, 0, {})
        except _TooManyBranchesError:
            return math.prod(self._sizes[name] for name in names)

    def _possible(self, parent: str, values: Mapping[Hashable, JSON]) -> list[JSON]:
        """The values named for `parent` that it can take, or that are on the grid."""
        parameter, size = self._space[parent], self._space[parent].size
        if self._points is None or self._points > self._most or (size is not None and size <= self._points):
            return [value for value in values.values() if parameter.contains(value)]
        grid = {identity(value) for value in parameter.grid_values(self._points)}
        return [value for key, value in values.items() if key in grid]

    def _walk(self, names: Sequence[str], i: int, params: Params) -> int:
        product = 1
        for k in range(i, len(names)):
            if not self._space.is_active(names[k], params):
                continue
            if names[k] in self._named:
                return product * self._branch(names, k, params)
            product *= self._sizes[names[k]]
        return product

    def _branch(self, names: Sequence[str], k: int, params: Params) -> int:
        """The sum over the parent's values that some condition names, plus all others, which are alike."""
        self._left -= 1
        if self._left < 0:
            raise _TooManyBranchesError
        name = names[k]
        total = sum(self._walk(names, k + 1, {**params, name: value}) for value in self._named[name])
        others = self._sizes[name] - len(self._named[name])
        return total + (others * self._walk(names, k + 1, {**params, name: _OTHER}) if others > 0 else 0)


_OTHER: Final = {"a value": "that no condition names"}
_MOST_VALUES: Final = 20_000  # on all grids together; beyond, how many of them fall together is not looked at


def _values(parameter: Parameter, points: int | None, *, most: int) -> int:
    """How many values a parameter takes, all of them or on a grid of `points`; an unbounded number counts as 2**53."""
    size = parameter.size
    if isinstance(parameter, Constant | Choice) or points is None or (size is not None and size <= points):
        return 2**53 if size is None else size
    return len(parameter.grid_values(points)) if points <= most else points


def describe(parameter: Parameter) -> str:
    """What values a parameter takes, in a few words."""
    match parameter:
        case Constant():
            return f"only {shown(parameter.value)}"
        case Choice():
            first = ", ".join(map(shown, parameter.values[:8]))
            return f"one of {first}{', …' if len(parameter.values) > 8 else ''}"  # noqa: PLR2004  # enough to read
        case Integer():
            return f"a whole number from {parameter.low} to {parameter.high}" + _steps(parameter.step, 1)
        case Real():
            return f"a number from {parameter.low:g} to {parameter.high:g}" + _steps(parameter.step, None)


def _steps(step: float | None, usual: float | None) -> str:
    return "" if step == usual else f" in steps of {step:g}"


def parents_of(name: str, parameters: Mapping[str, Parameter]) -> list[str]:
    """What has to be known before `name`: the parents in its condition, and parameters whose section holds it."""
    dots = [i for i, letter in enumerate(name) if letter == "."]
    prefixes = [name[:i] for i in dots if name[:i] in parameters]
    return list(dict.fromkeys([*(p for p in parameters[name].when if p in parameters), *prefixes]))


def find_cycle(parameters: Mapping[str, Parameter]) -> list[str]:
    """Parameters whose conditions go round in a circle, first and last the same; empty where there is none."""
    try:
        _parents_first(parameters)
    except _CycleError as error:
        return error.names
    return []


class _CycleError(ValueError):
    def __init__(self, names: list[str]) -> None:
        super().__init__("conditions go round in a circle: " + " -> ".join(names))
        self.names = names


def _parents_first(parameters: Mapping[str, Parameter]) -> list[str]:
    done: dict[str, None] = {}

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if name in done:
            return
        if name in trail:
            raise _CycleError([*trail[trail.index(name) :], name])
        for parent in parents_of(name, parameters):
            visit(parent, (*trail, name))
        done[name] = None

    for name in parameters:
        visit(name, ())
    return list(done)
