"""Twelve related series of the economy of the United States, 1959 to 2009, which come with statsmodels."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from trainables.data.splits import ArrayDataModule, SplitPlan
from trainables.data.windows import windowed

GROWING: Final = ("realgdp", "realcons", "realinv", "realgovt", "realdpi", "cpi", "m1", "pop")
RATES: Final = ("tbilrate", "unemp", "infl", "realint")


class MacroSeries(ArrayDataModule):
    """Batches of quarters that are known (batch, window, 12) and of those to forecast (batch, horizon, 12).

    Changes from quarter to quarter: of the logarithm for what grows (`GROWING`), of the value for rates (`RATES`), less
    the mean and over the deviation of the training quarters. The parts are in order of time, and no quarter that is
    forecast in one part is forecast in another; what is known may reach back into the part before.

    Args:
        window: Quarters that are known.
        horizon: Quarters to forecast after them.
        batch_size: Windows per training batch.
        folds: Number of folds in time; 1 means one validation part. Each trains on all that lies before it.
        fold: Which fold validates, from 0.
        seed: Changes nothing: time has one order. It is here because every data module has it.
        validation_share: Share of the non-test windows that validates, where `folds` is 1.
        test_share: Share of all windows, the last ones, that no search sees.
    """

    def __init__(  # noqa: PLR0913, PLR0917  # knobs of a data module are arguments
        self,
        window: int = 8,
        horizon: int = 4,
        batch_size: int = 16,
        folds: int = 1,
        fold: int = 0,
        seed: int = 0,
        validation_share: float = 0.2,
        test_share: float = 0.2,
    ) -> None:
        super().__init__(batch_size, SplitPlan(seed, folds, fold, validation_share, test_share))
        self.save_hyperparameters()
        self.window, self.horizon = window, horizon

    def load(self) -> None:
        """Load the series, cut them into windows and split those in time."""
        *windows, split = windowed(_load(), self.plan, self.window, self.horizon)
        self.set_parts(*windows, split=split)


@cache
def _load() -> NDArray[Any]:
    from statsmodels.datasets import macrodata

    table = macrodata.load_pandas().data
    growing, rates = table[list(GROWING)].to_numpy(), table[list(RATES)].to_numpy()
    changes: NDArray[Any] = np.diff(np.concatenate([np.log(growing), rates], axis=1), axis=0)
    return changes
