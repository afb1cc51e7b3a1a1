"""Scikit-learn's small real tables: rows of measurements with a class each; nothing is downloaded."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

from numpy.typing import NDArray

from trainables.data.splits import ArrayDataModule, SplitPlan, standardised

Table = Literal["breast_cancer", "wine"]


class Tabular(ArrayDataModule):
    """Batches of standardised columns (batch, columns) with class numbers.

    Mean and deviation come from the training part alone, so that nothing of validation or test leaks.

    Args:
        table: `breast_cancer` (569 rows, 30 columns, 2 classes) or `wine` (178 rows, 13 columns, 3 classes).
        batch_size: Rows per training batch.
        folds: Number of cross-validation folds; 1 means one stratified validation split.
        fold: Which fold validates, from 0.
        seed: Seed of the splits alone; the order of batches follows the global seed.
        validation_share: Share of the non-test rows that validates, where `folds` is 1.
        test_share: Share of all rows that no search sees.
    """

    def __init__(  # noqa: PLR0913, PLR0917  # knobs of a data module are arguments
        self,
        table: Table = "breast_cancer",
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
        rows, labels = _load(self.table)
        split = self.plan.split(labels)
        self.set_parts(standardised(rows, split.train), labels, split=split)


@cache
def _load(table: Table) -> tuple[NDArray[Any], NDArray[Any]]:
    from sklearn.datasets import load_breast_cancer, load_wine

    loaders = {"breast_cancer": load_breast_cancer, "wine": load_wine}
    data = loaders[table]()
    return data.data, data.target
