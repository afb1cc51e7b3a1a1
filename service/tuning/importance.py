"""Which parameters mattered, alone and in pairs: shares of what the trials' order varies by; numpy and scipy only.

The order is split over the whole search space, not over where the search went, into main effects and interactions of
pairs: the functional analysis of variance of Hutter, Hoos, Leyton-Brown (2014), with a sparse linear model in place of
their forest, since it says how sure each share is and gives a parameter without effect nothing. A parameter that is
active in a part of the space is judged inside that part, so that its parent's effect is not credited to it.

Trials that were stopped early are never taken for final ones: the order at each stage is predicted from the parameters
and the order at the stage before, among the trials that reached both. What a scheduler stopped it chose by the latter,
so nothing is distorted by the choice; in the end the stages are put together.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Final

import numpy as np

from service.tuning.gaussian_process import one_thread
from service.tuning.importance_basis import WAVES, Axis, Column, Floats, PairAxes
from service.tuning.importance_sampler import Draws, draw_effects

FEWEST_TRIALS: Final = 8  # with less, every number would be noise
FEWEST_FOR_PAIRS: Final = 20
_MOST_TRIALS: Final = 1000  # beyond it an even sample
_MOST_PAIRS: Final = 12
_DRAWS, _SCREENING_DRAWS = 300, 60
_SHUFFLES: Final = 199
_CHANCE: Final = 0.05  # that any interaction is shown where there is none
_INTERVAL: Final = (50.0, 5.0, 95.0)  # percent: the middle and a 90 % interval
_GRID, _SURFACE_GRID = 25, 13


@dataclass(frozen=True, slots=True)
class Share:
    """A share from 0 to 1 with its 90 % interval."""

    share: float
    low: float
    high: float


NOTHING: Final = Share(0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Importance:
    """The share of the trials' order that one parameter explains by itself, and with its interactions in `total`."""

    name: str
    main: Share
    total: Share
    trials: int  # in which it was active


@dataclass(frozen=True, slots=True)
class Interaction:
    """The share that two parameters explain together beyond what each explains by itself."""

    names: tuple[str, str]
    share: Share
    trials: int  # in which both were active


class Understanding:
    """What the trials say about the space. Empty (`is_known` False) with fewer than FEWEST_TRIALS usable trials.

    `stages`: one value per trial for each stage in turn, as from `orders`; higher is better, NaN where a trial did not
    come so far. The same arguments, the same answer.
    """

    def __init__(self, columns: Sequence[Column], stages: Sequence[Floats], *, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        known = np.flatnonzero(np.isfinite(stages[0]))
        if len(known) > _MOST_TRIALS:
            known = np.sort(rng.choice(known, _MOST_TRIALS, replace=False))
        self.trials = len(known)
        self._stages = [np.asarray(stage, dtype=np.float64)[known] for stage in stages]
        self._axes = [Axis(column, known) for column in columns]
        self._mains = [i for i, axis in enumerate(self._axes) if len(axis.values) > 1 and axis.trials >= FEWEST_TRIALS]
        self._conditions = _conditions(columns, self._axes)
        self._pairs: dict[tuple[int, int], PairAxes] = {}
        self._effects: dict[tuple[int, ...], Floats] = {}  # coefficients by draw, of parameters and pairs
        self._parts: dict[tuple[int, ...], Floats] = {}  # variance by draw
        self._total = np.ones(1)
        self.is_known = self.trials >= FEWEST_TRIALS
        if self.is_known and self._mains and np.ptp(self._stages[0]) > 0:
            with one_thread():
                self._learn(rng)

    def _learn(self, rng: np.random.Generator) -> None:
        mains = self._table()
        for stage in range(len(self._stages)):
            rest = self._rest(stage, mains, rng)
            if len(self._pairs) < _MOST_PAIRS and np.isfinite(rest).sum() >= FEWEST_FOR_PAIRS:
                self._pairs = {**self._pairs, **self._interacting(rest, rng)}
        table = self._table()
        self._draws = self._of_stage(0, table, rng, _DRAWS)[0]
        for stage in range(1, len(self._stages)):
            step, pull = self._of_stage(stage, table, rng, _DRAWS)
            self._draws = Draws(
                step.level + pull * self._draws.level,
                step.coefficients + pull[:, None] * self._draws.coefficients,
                step.noise + pull**2 * self._draws.noise,
            )
        ends = np.cumsum([len(decay) for decay in self._decays()])
        keys: list[tuple[int, ...]] = [*((i,) for i in self._mains), *self._pairs]
        pieces = np.split(self._draws.coefficients, ends[:-1], axis=1)
        self._effects = dict(zip(keys, pieces, strict=True))
        self._parts = {key: (e**2).sum(axis=1) * self._share_active(key) for key, e in self._effects.items()}
        self._total = np.sum(list(self._parts.values()), axis=0) + self._draws.noise

    def _of_stage(self, stage: int, table: Floats, rng: np.random.Generator, draws: int) -> tuple[Draws, Floats]:
        """(what the parameters add at a stage, what the value at the stage before is multiplied with), by draw."""
        rows = np.flatnonzero(np.isfinite(self._stages[stage]))
        columns, target, decays = table[rows], self._stages[stage][rows], self._decays()
        if stage == 0:
            return draw_effects(columns, target, decays, rng, draws=draws), np.zeros(draws)
        columns = np.column_stack([columns, self._stages[stage - 1][rows]])
        found = draw_effects(columns, target, [*decays, np.ones(1)], rng, draws=draws)
        return Draws(found.level, found.coefficients[:, :-1], found.noise), found.coefficients[:, -1]

    def _rest(self, stage: int, mains: Floats, rng: np.random.Generator) -> Floats:
        """What main effects, and the stage before, leave of a stage; NaN where a trial did not come so far."""
        pairs, self._pairs = self._pairs, {}
        found, pull = self._of_stage(stage, mains, rng, _SCREENING_DRAWS)
        self._pairs = pairs
        before = self._stages[stage - 1] * pull.mean() if stage else 0.0
        return np.asarray(
            self._stages[stage] - before - found.level.mean() - mains @ found.coefficients.mean(axis=0),
            dtype=np.float64,
        )

    def _decays(self) -> list[Floats]:
        return [*(self._axes[i].decay(WAVES) for i in self._mains), *(pair.decay for pair in self._pairs.values())]

    def _table(self) -> Floats:
        mains = [self._axes[i].at(self._axes[i].places, WAVES) for i in self._mains]
        return np.concatenate([*mains, *(pair.observed() for pair in self._pairs.values())], axis=1)

    def _interacting(self, rest: Floats, rng: np.random.Generator) -> dict[tuple[int, int], PairAxes]:
        """The pairs that explain more of what the main effects leave than the best of all pairs does by chance.

        Chance is what comes out where the rest is shuffled (Westfall, Young 1993), so it allows for how many pairs
        there are, and needs no assumption on the noise.
        """
        rows = np.flatnonzero(np.isfinite(rest))
        rest = rest[rows] - rest[rows].mean()
        shuffled = np.column_stack([rest, *(rng.permutation(rest) for _ in range(_SHUFFLES))])
        found, scores = [], []
        for i, j in itertools.combinations(self._mains, 2):
            pair = PairAxes(self._axes[i], self._axes[j])
            if pair.trials < FEWEST_FOR_PAIRS or not len(pair.decay):
                continue
            score = pair.decay @ (pair.observed()[rows].T @ shuffled) ** 2
            found.append(((i, j), pair))
            scores.append((score - score[1:].mean()) / (score[1:].std() or 1.0))
        if not found:
            return {}
        table = np.array(scores)
        bar = np.quantile(table[:, 1:].max(axis=0), 1 - _CHANCE / len(self._stages))
        order = [k for k in np.argsort(-table[:, 0], kind="stable")[:_MOST_PAIRS] if table[k, 0] > bar]
        return dict(found[k] for k in order)

    def _share_active(self, key: Sequence[int]) -> float:
        """The share of the space in which all parameters of `key` are active: each value of a parent counts alike."""
        limits: dict[int, frozenset[float]] = {}
        for number in key:
            for parent, places in self._conditions[number].items():
                limits[parent] = limits.get(parent, places) & places
        return math.prod(len(places) / len(self._axes[p].values) for p, places in limits.items())

    @property
    def explained(self) -> Share:
        """The share of the order that all effects explain together; the rest is noise and what no pair can say."""
        return self._share(np.sum(list(self._parts.values()), axis=0)) if self._parts else NOTHING

    @property
    def parameters(self) -> list[Importance]:
        """Every parameter, the one with the greatest total first."""
        if not self.is_known:
            return []
        found = []
        for i, axis in enumerate(self._axes):
            main = self._share(self._parts[i,]) if (i,) in self._parts else NOTHING
            parts = [part for key, part in self._parts.items() if i in key]
            total = self._share(np.sum(parts, axis=0)) if len(parts) > 1 else main
            found.append(Importance(axis.name, main, total, axis.trials))
        return sorted(found, key=lambda item: (-item.total.share, item.name))

    @property
    def interactions(self) -> list[Interaction]:
        """Pairs that stand out from chance, the strongest first; none is looked for in fewer than FEWEST_FOR_PAIRS."""
        found = [
            Interaction((self._axes[i].name, self._axes[j].name), self._share(self._parts[i, j]), pair.trials)
            for (i, j), pair in self._pairs.items()
        ]
        return sorted(found, key=lambda item: (-item.share.share, item.names))

    def curve(self, name: str) -> list[tuple[float, Share]]:
        """(place, the mean target there with its 90 % interval) along one parameter, over where it is active."""
        number = self._number(name)
        if (number,) not in self._effects:
            return []
        places = self._grid(number, _GRID)
        offset = self._draws.level + self._condition_effect((number,))
        values = offset[:, None] + self._effects[number,] @ self._axes[number].at(places, WAVES).T
        return [(float(p), _middle(values[:, k])) for k, p in enumerate(places)]

    def surface(self, names: tuple[str, str]) -> tuple[list[float], list[float], list[list[float]]]:
        """(places of the first, places of the second, mean target by first and second) of one of `interactions`."""
        key = (self._number(names[0]), self._number(names[1]))
        first, second = (self._grid(number, _SURFACE_GRID) for number in key)
        at = [np.repeat(first, len(second)), np.tile(second, len(first))]
        mean = np.full(len(at[0]), float((self._draws.level + self._condition_effect(key)).mean()))
        for number, places in zip(key, at, strict=True):
            mean += self._axes[number].at(places, WAVES) @ self._effects[number,].mean(axis=0)
        mean += self._pairs[key].at(*at) @ self._effects[key].mean(axis=0)
        return first.tolist(), second.tolist(), mean.reshape(len(first), len(second)).tolist()

    def as_standing(self, value: float) -> float:
        """The share of random configurations that a trial with `value` beats, its noise included."""
        spread = math.sqrt(float(self._total.mean()))
        return NormalDist(float(self._draws.level.mean()), spread).cdf(value)

    def _number(self, name: str) -> int:
        return next(i for i, axis in enumerate(self._axes) if axis.name == name)

    def _grid(self, number: int, points: int) -> Floats:
        axis = self._axes[number]
        few = axis.is_choice or len(axis.values) <= points // 2
        return axis.values if few else np.linspace(0.0, 1.0, points)

    def _condition_effect(self, key: Sequence[int]) -> Floats:
        """What the values of parents add where all of `key` are active, by draw."""
        effect = np.zeros(len(self._draws.level))
        limits = {p: v for number in key for p, v in self._conditions[number].items() if p not in key}
        for parent, places in limits.items():
            if (parent,) in self._effects:
                table = self._axes[parent].at(np.array(sorted(places)), WAVES)
                effect = effect + self._effects[parent,] @ table.mean(axis=0)
        return effect

    def _share(self, part: Floats) -> Share:
        return _middle(part / self._total)


def _middle(values: Floats) -> Share:
    middle, low, high = np.percentile(values, _INTERVAL)
    return Share(float(middle), float(low), float(high))


def _conditions(columns: Sequence[Column], axes: Sequence[Axis]) -> list[dict[int, frozenset[float]]]:
    """For each parameter: the places that its parents, and theirs, have to take, as far as trials took them."""
    numbers = {column.name: i for i, column in enumerate(columns)}

    def of(name: str) -> dict[int, frozenset[float]]:
        found: dict[int, frozenset[float]] = {}
        for parent, wanted in columns[numbers[name]].when.items():
            if parent not in numbers:
                continue
            number = numbers[parent]
            places = frozenset(axes[number].values.tolist()) & frozenset(wanted)
            if places:
                found = {**of(parent), **found, number: places}
        return found

    return [of(column.name) for column in columns]
