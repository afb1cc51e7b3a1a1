"""What a model reads of a table's columns; means and categories are those of the training part alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from trainables.data.faults import refuse, some
from trainables.data.row_splits import RowKeys
from trainables.data.splits import standardised
from trainables.data.tables import Table

Missing = Literal["error", "fill", "drop"]
UNKNOWN: Final = 0
_NEARLY_ALL: Final = 0.9


@dataclass(frozen=True, slots=True)
class Inputs:
    """Columns of numbers (rows, columns), NaN where missing, and of category codes (rows, columns), -1 there."""

    numerical: tuple[str, ...]
    categorical: tuple[str, ...]
    numbers: NDArray[np.float64]
    codes: NDArray[np.int64]

    def is_missing(self) -> NDArray[np.bool_]:
        """Which rows lack a value (rows,)."""
        lacking: NDArray[np.bool_] = np.logical_or(np.isnan(self.numbers).any(1), (self.codes < 0).any(1))
        return lacking

    def of(self, rows: NDArray[Any]) -> Inputs:
        """Some of the rows."""
        return Inputs(self.numerical, self.categorical, self.numbers[rows], self.codes[rows])

    def filled(self, train: NDArray[np.int64]) -> NDArray[np.float64]:
        """Numbers standardised by the training rows; where one is missing, their mean, which is 0.

        A column of which the training rows have no value becomes zeros.
        """
        with np.errstate(invalid="ignore"):
            counts = np.maximum((~np.isnan(self.numbers[train])).sum(0), 1)
            means = np.nansum(self.numbers[train], axis=0) / counts
            full = np.where(np.isnan(self.numbers), means, self.numbers)
        return standardised(full, train)

    def numbered(self, train: NDArray[np.int64]) -> NDArray[np.int64]:
        """Categories from 1 in the order of their names; 0 for those that no training row has, and for missing ones."""
        if not self.categorical:
            return self.codes
        return np.stack([known_codes(column, train) for column in self.codes.T], axis=1)

    def sizes(self, search: NDArray[np.int64]) -> list[int]:
        """How many categories each column may have, with 0, whatever the fold: those of all rows but the test part."""
        return [len(np.unique(column[column >= 0])) + 1 for column in self.codes[search].T]


def known_codes(codes: NDArray[np.int64], train: NDArray[np.int64]) -> NDArray[np.int64]:
    """Codes from 1 for the values that training rows have, in the old order; 0 (UNKNOWN) for all others."""
    known = np.unique(codes[train])
    known = known[known >= 0]
    numbers = np.full(int(codes.max(initial=0)) + 2, UNKNOWN, dtype=np.int64)  # -1, for missing, is the last
    numbers[known] = np.arange(len(known)) + 1
    return numbers[codes]


def read_inputs(table: Table, names: list[str], categorical: list[str], numerical: list[str]) -> Inputs:
    """The columns `names`; those in `categorical` and `numerical` are so, others as nine tenths of their values are.

    DataError for a value that is no number in a column of numbers.
    """
    table.require(*names, *categorical, *numerical)
    for name in categorical:
        if name in numerical:
            refuse(table.paths[0], f"column '{name}' is named as categorical and as numerical", "it can be one of both")
    numbers = [n for n in names if n not in categorical and (n in numerical or _is_mostly_numbers(table, n))]
    others = [n for n in names if n not in numbers]
    empty: NDArray[Any] = np.zeros((len(table), 0))
    return Inputs(
        tuple(numbers),
        tuple(others),
        np.stack([table.numbers(n) for n in numbers], 1) if numbers else empty,
        np.stack([table.codes(n)[0] for n in others], 1) if others else empty.astype(np.int64),
    )


def _is_mostly_numbers(table: Table, name: str) -> bool:
    """One slip of the pen in a column of numbers is a fault, and no reason to call them categories."""
    return table.share_of_numbers(name) >= _NEARLY_ALL


def check_missing(table: Table, inputs: Inputs, policy: Missing) -> None:
    """DataError for the first row that lacks a value, where that is no matter of filling or dropping."""
    lacking = np.flatnonzero(inputs.is_missing())
    if policy != "error" or not lacking.size:
        return
    first = lacking[0]
    names = [n for n, v in zip(inputs.numerical, np.isnan(inputs.numbers[first]), strict=True) if v]
    names += [n for n, v in zip(inputs.categorical, inputs.codes[first] < 0, strict=True) if v]
    refuse(
        table.place(int(first)), f"no value of {', '.join(names)} ({some(len(lacking), 'row')} in all)",
        "mend it, or set missing to fill (the training mean, the unknown category) or drop",
    )  # fmt: skip


def row_keys(table: Table, group: str, time: str = "") -> RowKeys:
    """What a split of the table goes by, without labels; DataError where a row has no group or time."""
    groups = table.full_codes(group, "each row needs a group")[0] if group else None
    moments = table.moments(time) if time else None
    given_test = len(table) - table.searched
    return RowKeys(len(table), table.place, str(table.paths[0]), groups=groups, moments=moments, given_test=given_test)
