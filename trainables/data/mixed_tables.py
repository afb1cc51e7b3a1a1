"""Small real tables of numbers and categories, from packages that carry them; nothing is downloaded."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trainables.data.splits import ArrayDataModule, SplitPlan, standardised

MixedTable = Literal["voters", "diabetes"]


class Columns(NamedTuple):
    """A table: numbers (rows, columns), categories from 0 (rows, columns), and what is predicted (rows,)."""

    numbers: NDArray[np.float64]
    categories: NDArray[np.int64]
    targets: NDArray[Any]


class MixedTables(ArrayDataModule):
    """Batches of numbers (batch, columns), categories (batch, columns) and targets (batch,).

    Numbers, and targets that are numbers, are standardised by mean and deviation of the training part alone.

    Args:
        table: `voters` (the American national election study of 1996, from statsmodels: 944 people, 3 numbers,
            6 categorical columns of 7, 7, 7, 7, 7 and 24 categories; Clinton or Dole) or `diabetes` (Efron et al. 2004,
            from scikit-learn: 442 patients, 9 numbers, sex; progression after a year, a number).
        batch_size: Rows per training batch.
        folds: Number of cross-validation folds; 1 means one validation split.
        fold: Which fold validates, from 0.
        seed: Seed of the splits alone; the order of batches follows the global seed.
        validation_share: Share of the non-test rows that validates, where `folds` is 1.
        test_share: Share of all rows that no search sees.
    """

    def __init__(  # noqa: PLR0913, PLR0917  # knobs of a data module are arguments
        self,
        table: MixedTable = "voters",
        batch_size: int = 32,
        folds: int = 1,
        fold: int = 0,
        seed: int = 0,
        validation_share: float = 0.2,
        test_share: float = 0.2,
    ) -> None:
        super().__init__(batch_size, SplitPlan(seed, folds, fold, validation_share, test_share))
        self.save_hyperparameters()
        self.table = table

    def load(self) -> None:
        """Load, split and standardise the table."""
        numbers, categories, targets = _load(self.table)
        has_classes = targets.dtype.kind == "i"
        split = self.plan.split(targets) if has_classes else self.plan.split_evenly(len(targets))
        if not has_classes:
            targets = standardised(targets, split.train)
        self.set_parts(standardised(numbers, split.train), categories, targets, split=split)


@cache
def _load(table: MixedTable) -> Columns:
    return _voters() if table == "voters" else _diabetes()


def _voters() -> Columns:
    from statsmodels.datasets import anes96

    rows = anes96.load_pandas().data
    categories = rows[["selfLR", "ClinLR", "DoleLR", "educ", "PID", "income"]].to_numpy().astype(np.int64)
    first = np.array([1, 1, 1, 1, 0, 1])  # what the lowest answer to each question is called
    return Columns(rows[["logpopul", "TVnews", "age"]].to_numpy(), categories - first, rows["vote"].to_numpy(np.int64))


def _diabetes() -> Columns:
    from sklearn.datasets import load_diabetes

    data = load_diabetes(scaled=False)
    is_sex = np.array([name == "sex" for name in data.feature_names])
    return Columns(data.data[:, ~is_sex], data.data[:, is_sex].astype(np.int64) - 1, data.target)
