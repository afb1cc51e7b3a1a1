"""A user's own table, CSV or Parquet: columns by name, numbers and categories, classes or a number to predict."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.data.faults import refuse
from trainables.data.row_splits import RowKeys, split_rows
from trainables.data.splits import ArrayDataModule, Split, SplitPlan, standardised
from trainables.data.table_columns import Inputs, Missing, check_missing, read_inputs, row_keys
from trainables.data.tables import CSVFormat, Table, read_table
from trainables.tasks.targets import TargetKind


class TableFile(ArrayDataModule):
    """Batches of numbers (batch, columns), of categories (batch, columns) where there are some, and targets (batch,).

    Numbers, and targets that are numbers, are standardised by mean and deviation of the training part; categories count
    from 1 in the order of the training part's, 0 is any other; classes count from 0 in the order of their names. Which
    columns are numbers shows in `numerical`, which categories in `categorical`; what a model must be told, in `sizes`.

    Args:
        path: A .csv, .tsv or .parquet file with names of columns; `NA`, `?`, `null`, `nan` and empty cells are missing.
        target: The column to predict.
        target_kind: `class` or `number`: what is predicted.
        columns: The columns that are inputs; none named means all but those of target, group, time and `ignore`.
        ignore: Columns that are no inputs, such as a row's own number.
        categorical: Columns of categories, whatever they hold; others are found by nine tenths of their values.
        numerical: Columns of numbers, whatever they hold.
        missing: Rows that lack an input: `error`, `fill` (the training part's mean, the category 0), or `drop`.
        group: A column; rows with the same value are in one part.
        time: A column; rows are split in its order, so that validation and test come later.
        test_path: A file whose rows are the test part, in place of `test_share`.
        delimiter: The sign between a CSV file's cells; a tab for .tsv.
        encoding: A CSV file's encoding.
        batch_size: Rows per training batch.
        folds: Number of cross-validation folds; 1 means one validation split.
        fold: Which fold validates, from 0.
        seed: Seed of the splits alone; the order of batches follows the global seed.
        validation_share: Share of the non-test rows (or groups) that validates, where `folds` is 1.
        test_share: Share of all rows (or groups) that no search sees.
    """

    def __init__(  # noqa: PLR0913, PLR0917  # knobs of a data module are arguments
        self,
        path: str,
        target: str = "target",
        target_kind: TargetKind = "class",
        columns: list[str] | None = None,
        ignore: list[str] | None = None,
        categorical: list[str] | None = None,
        numerical: list[str] | None = None,
        missing: Missing = "error",
        group: str = "",
        time: str = "",
        test_path: str = "",
        delimiter: str = ",",
        encoding: str = "utf-8",
        batch_size: int = 32,
        folds: int = 1,
        fold: int = 0,
        seed: int = 0,
        validation_share: float = 0.2,
        test_share: float = 0.2,
    ) -> None:
        super().__init__(batch_size, SplitPlan(seed, folds, fold, validation_share, test_share))
        self.save_hyperparameters(logger=False)  # a model may have arguments of the same names
        self.files, self.csv = (path, test_path), CSVFormat(delimiter, encoding)
        self.target, self.is_class = target, target_kind == "class"
        self.columns, self.ignore = columns or [], ignore or []
        self.forced = (categorical or [], numerical or [])
        self.missing: Missing = missing
        self.group, self.time = group, time
        self.numerical: tuple[str, ...] = ()
        self.categorical: tuple[str, ...] = ()

    def load(self) -> None:
        """Read, check, split and standardise the table; DataError names the file and the row at fault."""
        table = read_table(*self.files, self.csv)
        table.require(self.target, *self.columns, *self.ignore)
        inputs = read_inputs(table, self._input_names(table), *self.forced)
        targets = self._read_targets(table)
        keys = row_keys(table, self.group, self.time)
        check_missing(table, inputs, self.missing)
        if self.missing == "drop":
            rows = np.flatnonzero(~inputs.is_missing())
            inputs, targets, keys = inputs.of(rows), targets[rows], _of(keys, rows)
        if self.is_class:
            keys = replace(keys, labels=targets, label_names=self.classes)
        self._set(inputs, targets, split_rows(self.plan, keys))

    def _set(self, inputs: Inputs, targets: NDArray[Any], split: Split) -> None:
        self.numerical, self.categorical = inputs.numerical, inputs.categorical
        search = np.concatenate([split.train, split.validation])
        self.sizes = {"numbers": len(self.numerical), "categories": inputs.sizes(search)}
        if self.is_class:
            self.sizes["classes"] = len(self.classes)
        else:
            targets = standardised(targets, split.train)
        categories = [inputs.numbered(split.train)] if self.categorical else []
        self.set_parts(inputs.filled(split.train), *categories, targets, split=split)

    def _input_names(self, table: Table) -> list[str]:
        others = {self.target, self.group, self.time, *self.ignore}
        if self.target in self.columns:
            refuse(table.paths[0], f"'{self.target}' is the target and among the columns", "it cannot be an input, too")
        names = self.columns or [name for name in table.names if name not in others]
        return names or refuse(table.paths[0], "no column is an input", "name some in columns, or fewer in ignore")

    def _read_targets(self, table: Table) -> NDArray[Any]:
        targets: NDArray[Any]
        if self.is_class:
            targets, self.classes = table.codes(self.target)
        else:
            targets = table.numbers(self.target)
        lacking = targets < 0 if self.is_class else np.isnan(targets)
        if lacking.any():
            row = int(np.flatnonzero(lacking)[0])
            refuse(table.place(row), f"the target '{self.target}' is empty", "each row needs one: leave the row out")
        return targets


def _of(keys: RowKeys, rows: NDArray[np.int64]) -> RowKeys:
    """The keys of some of the rows."""
    searched = keys.count - keys.given_test
    return replace(
        keys,
        count=len(rows),
        place=lambda row: keys.place(int(rows[row])),
        groups=None if keys.groups is None else keys.groups[rows],
        moments=None if keys.moments is None else keys.moments[rows],
        given_test=int((rows >= searched).sum()),
    )
