"""What folds and seeds tell about configurations: their means, how sure those are, and which are clearly worse.

A fit's loss is modelled as configuration + cell + noise, where a cell is a fold trained with a seed (the two-way
additive model; Searle, Linear Models, 1971, chapter 7). Folds differ in difficulty, so what a configuration's own folds
had of that is taken out; and the noise is one variance for all, since few fits of each are many together.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import numpy as np

LEAST_FREEDOM: Final = 2  # degrees of freedom; below that the noise is not known
LEAST_FOR_SPREAD: Final = 4  # configurations from which their own spread is estimated
MOST_COMPARED: Final = 100  # configurations whose chance to be the best is worked out
GRID: Final = 1000
Cell = tuple[int, int]  # fold, seed index


@dataclass(frozen=True, slots=True)
class FitResult:
    """The loss of one complete fit, at its best epoch, and by how much it broke the constraints there."""

    configuration: int
    cell: Cell
    loss: float
    violation: float = 0.0


@dataclass(frozen=True, slots=True)
class Standing:
    """A configuration by its complete fits. Losses: lower is better.

    `mean` is over all cells that any configuration was trained in; where this one lacks some, their difficulty is
    estimated from the others. `error` is its standard error, None while the noise is unknown. `expected` is `mean`
    drawn towards the other configurations by as much as luck explains it; `shift` what has to be added to the loss of
    its first fit to have the mean in that fit's cell. `behind` is how likely it is that such a difference to the first
    one is luck (one-sided), and `best` how likely it is that none is better; None where that is unknown.
    """

    configuration: int
    fits: int
    mean: float
    error: float | None
    expected: float
    shift: float
    violation: float
    behind: float | None
    best: float | None


def standings(results: Iterable[FitResult], finalists: frozenset[int] = frozenset()) -> list[Standing]:
    """All configurations with results, the best first: those that break no constraint, by what is expected of them.

    `finalists` were trained once more on purpose and come before all others.
    """
    by_configuration: dict[int, list[FitResult]] = {}
    for result in results:
        by_configuration.setdefault(result.configuration, []).append(result)
    if not by_configuration:
        return []
    model = _Model(by_configuration)
    violations = {c: sum(r.violation for r in fits) / len(fits) for c, fits in by_configuration.items()}
    expected = dict(zip(model.numbers, model.expected, strict=True))
    order = sorted(expected, key=lambda c: (violations[c], c not in finalists, expected[c], c))
    return model.standings(order, violations)


class _Model:
    """The fit of the model by least squares."""

    def __init__(self, by_configuration: Mapping[int, Sequence[FitResult]]) -> None:
        import numpy as np

        self.numbers = sorted(by_configuration)
        cells = sorted({r.cell for fits in by_configuration.values() for r in fits}, key=lambda cell: cell[::-1])
        place = {cell: k for k, cell in enumerate(cells)}
        self._losses = np.zeros((len(self.numbers), len(cells)))
        self._has = np.zeros_like(self._losses, dtype=bool)
        for i, number in enumerate(self.numbers):
            for result in by_configuration[number]:
                self._losses[i, place[result.cell]] = result.loss
                self._has[i, place[result.cell]] = True
        self.fits = self._has.sum(axis=1)
        self._weights = self._has / self.fits[:, None]
        self._own_means = (self._losses * self._weights).sum(axis=1)
        self._solve()
        self.means = self._own_means - self._weights @ self._effects + self._effects.mean()
        self.expected, self._spread = self._shrunken()

    def _solve(self) -> None:
        """Cell effects and noise, from the configurations that have several fits: only they can tell."""
        import numpy as np

        several = self.fits > 1
        has, weights = self._has[several].astype(float), self._weights[several]
        residuals = np.where(has > 0, self._losses[several] - self._own_means[several, None], 0.0)
        normal = np.diag(has.sum(axis=0)) - has.T @ weights
        self._inverse = np.linalg.pinv(normal, hermitian=True)
        self._effects = self._inverse @ residuals.sum(axis=0)
        residuals -= np.where(has > 0, self._effects - (weights @ self._effects)[:, None], 0.0)
        seen = int((has.sum(axis=0) > 0).sum())
        self.freedom = int(has.sum() - several.sum() - max(0, seen - 1))
        self.noise = float((residuals**2).sum() / self.freedom) if self.freedom >= LEAST_FREEDOM else None

    def _shrunken(self) -> tuple[np.ndarray, float]:
        """(expected means, variance between configurations). The better half decides: the worst are far out."""
        import numpy as np

        if self.noise is None or len(self.means) < LEAST_FOR_SPREAD:
            return self.means, math.inf
        middle = float(np.median(self.means))
        better = self.means <= middle
        raw = float(((self.means[better] - middle) ** 2).mean())
        spread = max(raw - self.noise * float((1 / self.fits[better]).mean()), raw / 10)
        if spread <= 0:
            return self.means, math.inf
        share = spread / (spread + self.noise / self.fits)
        expected: np.ndarray = middle + (self.means - middle) * share
        return expected, spread

    def _errors(self, weights: np.ndarray) -> np.ndarray:
        """Variance of each mean against one whose cells weigh `weights`, without that one's own; noise is 1."""
        import numpy as np

        offsets = self._weights - weights
        found: np.ndarray = 1 / self.fits + np.einsum("ik,kl,il->i", offsets, self._inverse, offsets)
        return found

    def standings(self, order: Sequence[int], violations: Mapping[int, float]) -> list[Standing]:
        """One per configuration, in `order`."""
        import numpy as np

        rows = {number: i for i, number in enumerate(self.numbers)}
        everywhere = np.full(self._has.shape[1], 1 / self._has.shape[1])
        own = self._errors(everywhere)
        behind, best = self._behind(rows[order[0]]), self._best([rows[number] for number in order], violations, order)
        found = []
        for number in order:
            i = rows[number]
            first = int(np.flatnonzero(self._has[i])[0])
            shift = self.means[i] - self._effects.mean() + self._effects[first] - self._losses[i, first]
            found.append(
                Standing(
                    number,
                    int(self.fits[i]),
                    float(self.means[i]),
                    None if self.noise is None else math.sqrt(self.noise * own[i]),
                    float(self.expected[i]),
                    float(shift) if self.fits[i] > 1 else 0.0,
                    violations[number],
                    None if behind is None else float(behind[i]),
                    best.get(number) if best is not None else None,
                )
            )
        return found

    def _behind(self, leader: int) -> np.ndarray | None:
        """The p-value of each configuration's being worse than the leader (Student's t, pooled variance)."""
        import numpy as np
        from scipy.special import stdtr

        if self.noise is None:
            return None
        variance = self.noise * (self._errors(self._weights[leader]) + 1 / self.fits[leader])
        difference = self.means - self.means[leader]
        scale = np.sqrt(np.maximum(variance, 1e-300))
        found: np.ndarray = stdtr(self.freedom, -difference / scale)
        found[leader] = 1.0
        return found

    def _best(
        self, rows: Sequence[int], violations: Mapping[int, float], order: Sequence[int]
    ) -> dict[int, float] | None:
        """How likely each configuration without violation is to have the lowest mean: an integral on a grid."""
        import numpy as np
        from scipy.special import ndtr

        if self.noise is None:
            return None
        kept = [i for i, number in zip(rows, order, strict=True) if violations[number] == 0][:MOST_COMPARED]
        if not kept:
            return {}
        noise = np.maximum(self.noise / self.fits[kept], 1e-300)
        deviations = np.sqrt(noise if math.isinf(self._spread) else noise * self._spread / (noise + self._spread))
        middles = self.expected[kept]
        lowest, widest = middles.min(), deviations.max()
        grid = np.linspace(lowest - 6 * widest, lowest + 6 * widest, GRID)[:, None]
        places = np.clip((grid - middles) / deviations, -1e150, 1e150)  # their squares stay numbers
        densities = np.exp(-0.5 * places**2) / deviations
        above = np.log(np.maximum(ndtr(-places), 1e-300))
        shares = (densities * np.exp(above.sum(axis=1, keepdims=True) - above)).sum(axis=0)
        total = shares.sum()
        return {self.numbers[i]: float(share / total) for i, share in zip(kept, shares, strict=True)} if total else None
