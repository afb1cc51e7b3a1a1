"""A user's own time series, several that belong together, from a CSV or Parquet file."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from trainables.data.faults import DataError, refuse
from trainables.data.splits import ArrayDataModule, SplitPlan
from trainables.data.tables import CSVFormat, Table, read_table
from trainables.data.windows import windowed

Gaps = Literal["error", "previous"]


class SeriesFile(ArrayDataModule):
    """Batches of steps that are known (batch, window, series) and of those to forecast (batch, horizon, series).

    Wide files have a column for each series and a row for each step; long ones a row for each series and step. Steps
    are taken in order of time, one after the other, however far apart. Each series is standardised by mean and
    deviation of the training steps. The parts are in order of time, and no step that is forecast in one part is
    forecast in another; what is known may reach back into the part before. `series` has the names in their order.

    Args:
        path: A .csv, .tsv or .parquet file with names of columns.
        time: The column of times: numbers, dates, or texts as in 2026-11-23 14:05:00; each step has one of its own.
        columns: Of a wide file: the series' columns; none named means all but that of time.
        series: Of a long file: the column that names the series.
        value: Of a long file: the column of values.
        window: Steps that are known.
        horizon: Steps to forecast after them.
        missing: What becomes of a missing value: `error`, or `previous`: it is the one before it.
        delimiter: The sign between a CSV file's cells; a tab for .tsv.
        encoding: A CSV file's encoding.
        batch_size: Windows per training batch.
        folds: Number of folds in time; 1 means one validation part. Each trains on all that lies before it.
        fold: Which fold validates, from 0.
        seed: Changes nothing: time has one order. It is here because every data module has it.
        validation_share: Share of the non-test windows that validates, where `folds` is 1.
        test_share: Share of all windows, the last ones, that no search sees.
    """

    def __init__(  # noqa: PLR0913, PLR0917  # knobs of a data module are arguments
        self,
        path: str,
        time: str = "time",
        columns: list[str] | None = None,
        series: str = "",
        value: str = "",
        window: int = 24,
        horizon: int = 6,
        missing: Gaps = "error",
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
        if bool(series) != bool(value) or (series and columns) or min(window, horizon) < 1:
            msg = (
                f"name series and value for a long file, columns (or nothing) for a wide one, got series '{series}', "
                f"value '{value}', columns {columns}; window {window} and horizon {horizon} must be at least 1"
            )
            raise ValueError(msg)
        self.save_hyperparameters(logger=False)  # a model may have arguments of the same names
        self.path, self.csv, self.time = path, CSVFormat(delimiter, encoding), time
        self.columns, self.long = columns or [], (series, value)
        self.window, self.horizon = window, horizon
        self.missing: Gaps = missing
        self.series: list[str] = []

    def load(self) -> None:
        """Read and check the series, cut them into windows and split those in time."""
        table = read_table(self.path, csv=self.csv)
        table.require(self.time, *self.columns, *(name for name in self.long if name))
        values = self._long(table) if self.long[0] else self._wide(table)
        self.sizes = {"series": len(self.series), "horizon": self.horizon}
        try:
            *windows, split = windowed(values, self.plan, self.window, self.horizon)
        except ValueError as error:
            msg = f"{self.path}: too few steps for window {self.window} and horizon {self.horizon}: {error}"
            raise DataError(msg) from error
        self.set_parts(*windows, split=split)

    def _wide(self, table: Table) -> NDArray[np.float64]:
        self.series = self.columns or [name for name in table.names if name != self.time]
        if not self.series:
            refuse(self.path, f"no column but '{self.time}'", "there must be one for each series")
        moments = table.moments(self.time)
        rows = np.argsort(moments, kind="stable")
        _refuse_twice(table, moments[rows][:, None], rows, f"'{self.time}'")
        values = np.stack([table.numbers(name)[rows] for name in self.series], 1)
        gaps = np.argwhere(np.isnan(values))
        if gaps.size and self.missing == "error":
            step, column = gaps[0]
            refuse(table.place(rows[step]), f"no value of '{self.series[column]}'", "mend it, or set missing: previous")
        return self._filled(values)

    def _long(self, table: Table) -> NDArray[np.float64]:
        codes, self.series = table.full_codes(self.long[0], "each row needs the name of its series")
        moments, numbers = table.moments(self.time), table.numbers(self.long[1])
        rows = np.lexsort((moments, codes))
        _refuse_twice(table, np.stack([codes, moments], 1)[rows], rows, f"'{self.time}' of the series")
        empty = np.flatnonzero(np.isnan(numbers))
        if empty.size and self.missing == "error":
            refuse(table.place(int(empty[0])), f"no '{self.long[1]}'", "mend it, or set missing: previous")
        steps, place = np.unique(moments, return_inverse=True)
        values = np.full((len(steps), len(self.series)), np.nan)
        values[place, codes] = numbers
        gaps = np.argwhere(np.isnan(values))
        if gaps.size and self.missing == "error":
            step, column = gaps[0]
            some = table.place(int(np.flatnonzero(place == step)[0]))
            refuse(some, f"series '{self.series[column]}' has no row for its time", "add it, or set missing: previous")
        return self._filled(values)

    def _filled(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Each missing value is the last one before it."""
        late = np.flatnonzero(np.isnan(values[0]))
        if late.size:
            names = ", ".join(self.series[column] for column in late)
            refuse(self.path, f"no value of {names} at the first time", "nothing is before it: begin later")
        steps = np.where(np.isnan(values), 0, np.arange(len(values))[:, None])
        filled: NDArray[np.float64] = np.take_along_axis(values, np.maximum.accumulate(steps, axis=0), axis=0)
        return filled


def _refuse_twice(table: Table, keys: NDArray[Any], rows: NDArray[np.int64], what: str) -> None:
    """DataError where two rows next to each other have the same keys."""
    same = np.flatnonzero((keys[1:] == keys[:-1]).all(1))
    if same.size:
        first, second = sorted(rows[same[0] : same[0] + 2])
        refuse(table.place(int(second)), f"{what} is that of {table.place(int(first))}", "each step has one row")
