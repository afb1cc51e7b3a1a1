"""Reads CSV and Parquet files whole, column by column, and knows where each row stands in its file."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from trainables.data.csv_lines import first_fault, header_of, line_of
from trainables.data.faults import DataError, refuse, refuse_name
from trainables.data.given_paths import given_paths

MISSING: Final = ("", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "#N/A", "?")
"""What counts as no value in a cell of a CSV file, beside blanks around it."""
_CSV: Final = (".csv", ".tsv", ".txt")
_PARQUET: Final = (".parquet", ".pq")
_INDEX: Final = "__index_level_"  # what pandas calls its own row numbers in a Parquet file


@dataclass(frozen=True, slots=True)
class CSVFormat:
    """How a CSV file is written: the sign between cells (a tab for `.tsv` unless named) and the encoding."""

    delimiter: str = ","
    encoding: str = "utf-8"

    def of(self, path: Path) -> CSVFormat:
        """The format for one file."""
        is_tabbed = path.suffix.lower() == ".tsv" and self.delimiter == ","
        return CSVFormat("\t", self.encoding) if is_tabbed else self


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of one file, or of it and then one for the test part, numbered from 0 through both."""

    columns: Any
    """A pyarrow.Table; the columns of a CSV file are strings."""
    paths: tuple[Path, ...]
    starts: tuple[int, ...]
    """The first row of each file."""
    csv: CSVFormat

    def __len__(self) -> int:
        return int(self.columns.num_rows)

    @property
    def names(self) -> list[str]:
        """The columns' names."""
        return list(self.columns.column_names)

    @property
    def searched(self) -> int:
        """How many rows, the first ones, are not of a file for the test part."""
        return self.starts[1] if len(self.starts) > 1 else len(self)

    def file_of(self, row: int) -> int:
        """The number of the file that a row is of."""
        return bisect_right(self.starts, row) - 1

    def place(self, row: int) -> str:
        """Where a row stands: the line of a CSV file as an editor counts it, the row of a Parquet file from 1."""
        number = self.file_of(row)
        path, within = self.paths[number], int(row) - self.starts[number]
        if path.suffix.lower() in _PARQUET:
            return f"{path}, row {within + 1}"
        return f"{path}, line {line_of(path, self.csv.of(path), within)}"

    def require(self, *names: str) -> None:
        """DataError for a column that is not there."""
        for name in names:
            if name not in self.names:
                refuse_name(self.paths[0], "column", name, self.names)

    def cells(self, name: str) -> Any:  # noqa: ANN401  # pyarrow has no annotations
        """A column in one piece, without blanks around its texts; null where a value is missing."""
        import pyarrow as pa
        import pyarrow.compute as pc

        self.require(name)
        column = self.columns[name].combine_chunks()
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if pa.types.is_floating(column.type):
            return pc.if_else(pc.is_nan(column), None, column)
        if not is_text(column):
            return column
        column = pc.utf8_trim_whitespace(column)
        is_missing = pc.is_in(column, value_set=pa.array(MISSING, column.type))
        return pc.if_else(is_missing, pa.scalar(None, column.type), column)

    def texts(self, name: str) -> list[str]:
        """A column of texts as they stand; DataError where one is empty."""
        import pyarrow as pa
        import pyarrow.compute as pc

        self.require(name)
        column = self.columns[name].combine_chunks().cast(pa.string()).fill_null("")
        empty = np.flatnonzero(pc.utf8_length(pc.utf8_trim_whitespace(column)).to_numpy() == 0)
        if empty.size:
            refuse(self.place(int(empty[0])), f"'{name}' is empty", "each row needs a text: leave the row out")
        texts: list[str] = column.to_pylist()
        return texts

    def numbers(self, name: str) -> NDArray[np.float64]:
        """A column of numbers, NaN where missing; DataError for anything else, and for infinity."""
        import pyarrow as pa

        column = self.cells(name)
        if pa.types.is_temporal(column.type) or pa.types.is_nested(column.type):
            refuse(self.paths[0], f"column '{name}' holds {column.type}", "numbers are needed: leave the column out")
        try:
            exact = column.cast(pa.float64())
        except pa.ArrowInvalid:
            row, value = self._no_number(column)
            refuse(self.place(row), f"'{name}' is {value!r}", "a finite number is needed, as in 12.5 or 1e-3")
        values: NDArray[np.float64] = exact.to_numpy(zero_copy_only=False).astype(np.float64)
        endless = np.flatnonzero(np.isinf(values))
        if endless.size:
            refuse(self.place(endless[0]), f"'{name}' is {values[endless[0]]}", "a finite number is needed")
        return values

    def codes(self, name: str) -> tuple[NDArray[np.int64], list[str]]:
        """A column as numbers of its distinct values, -1 where missing, and those values in order.

        The order is that of the numbers where all values are numbers, and the alphabet's otherwise.
        """
        import pyarrow as pa

        encoded = self.cells(name).cast(pa.string()).dictionary_encode()
        values: list[str] = encoded.dictionary.to_pylist()
        indices = encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        order = sorted(range(len(values)), key=_ordering(values))
        places = np.empty(len(values) + 1, dtype=np.int64)
        places[order], places[-1] = np.arange(len(values)), -1
        return places[indices], [values[i] for i in order]

    def full_codes(self, name: str, remedy: str) -> tuple[NDArray[np.int64], list[str]]:
        """As `codes`, of a column that lacks no value; DataError with the `remedy` where one is missing."""
        codes, values = self.codes(name)
        empty = np.flatnonzero(codes < 0)
        if empty.size:
            refuse(self.place(int(empty[0])), f"'{name}' is empty", remedy)
        return codes, values

    def moments(self, name: str) -> NDArray[Any]:
        """A column of points in time as numbers that sort: numbers, dates, or ISO 8601 texts; none may be missing."""
        import pyarrow as pa
        import pyarrow.compute as pc

        column = self.cells(name)
        if column.null_count:
            row = int(np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0])
            refuse(self.place(row), f"'{name}' is empty", "each row needs a time")
        if pa.types.is_date(column.type):
            column = column.cast(pa.timestamp("us"))
        if not is_text(column):
            return np.asarray(column.cast(pa.int64() if pa.types.is_timestamp(column.type) else pa.float64()))
        for kind in (pa.float64(), pa.timestamp("us"), pa.timestamp("us", "UTC")):
            try:
                moments = pc.cast(column, kind)
            except pa.ArrowInvalid:
                continue
            return np.asarray(moments if kind == pa.float64() else moments.cast(pa.int64()))
        row = _first(column, _no_moments(column))
        return refuse(
            self.place(row), f"'{name}' is {column[row].as_py()!r}", "a time is a number or as 2026-11-23 14:05:00"
        )

    def share_of_numbers(self, name: str) -> float:
        """How much of a column's values are numbers, from 0 to 1; 1 where there is no value."""
        import pyarrow as pa

        column = self.cells(name)
        if not is_text(column):
            is_number = pa.types.is_integer(column.type) or pa.types.is_floating(column.type)
            return float(is_number or pa.types.is_decimal(column.type) or pa.types.is_null(column.type))
        try:
            column.cast(pa.float64())
        except pa.ArrowInvalid:
            encoded = column.dictionary_encode()
            counts = np.bincount(encoded.indices.drop_null().to_numpy(), minlength=len(encoded.dictionary))
            good = np.array([_is_number(value) for value in encoded.dictionary.to_pylist()])
            return float(counts[good].sum() / counts.sum())
        return 1.0

    @staticmethod
    def _no_number(column: Any) -> tuple[int, str]:  # noqa: ANN401  # pyarrow has no annotations
        row = _first(column, [value for value in column.unique().to_pylist() if value and not _is_number(value)])
        return row, column[row].as_py()


def is_text(column: Any) -> bool:  # noqa: ANN401  # pyarrow has no annotations
    """Whether a column holds strings."""
    import pyarrow as pa

    return bool(pa.types.is_string(column.type) or pa.types.is_large_string(column.type))


def read_table(path: str, test_path: str = "", csv: CSVFormat | None = None) -> Table:
    """The rows of `path`, then those of `test_path`; DataError for a file that cannot be read."""
    import pyarrow as pa

    paths, how = given_paths(path, test_path), csv or CSVFormat()
    parts = [_read(one, how.of(one), _stamp(one)) for one in paths]
    for one, part in zip(paths[1:], parts[1:], strict=True):
        for name in parts[0].column_names:
            if name not in part.column_names:
                refuse_name(one, "column", name, part.column_names)
    try:
        rows = pa.concat_tables([part.select(parts[0].column_names) for part in parts], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        refuse(paths[-1], f"its columns are of other types than those of {paths[0]}", f"they must be alike ({error})")
    starts = np.cumsum([0, *(part.num_rows for part in parts)])
    return Table(rows, tuple(paths), tuple(int(start) for start in starts[:-1]), how)


def _stamp(path: Path) -> tuple[int, int]:
    """What changes with the file, so that a worker reads a file once for all its trials."""
    if path.suffix.lower() not in (*_CSV, *_PARQUET):
        refuse(path, f"'{path.suffix}' is no kind of table", f"it must be one of {', '.join((*_CSV, *_PARQUET))}")
    try:
        about = path.stat()
    except OSError as error:
        refuse(path, f"cannot be read ({error.strerror})", "name a file that is on the machine that trains")
    return about.st_mtime_ns, about.st_size


@lru_cache(maxsize=2)
def _read(path: Path, csv: CSVFormat, _stamp: tuple[int, int]) -> Any:  # noqa: ANN401  # pyarrow has no annotations
    import pyarrow as pa

    if path.suffix.lower() in _CSV:
        rows = _read_csv(path, csv)
    else:
        from pyarrow import parquet

        try:
            rows = parquet.read_table(path, use_threads=False)
        except (pa.ArrowInvalid, OSError) as error:
            refuse(path, f"is no Parquet file ({error})", "write it again, or name a .csv file")
    rows = rows.select([name for name in rows.column_names if not name.startswith(_INDEX)])
    if not rows.num_rows:
        refuse(path, "no rows", "there must be a row for each sample, below the header")
    return rows


def _read_csv(path: Path, csv: CSVFormat) -> Any:  # noqa: ANN401  # pyarrow has no annotations
    import pyarrow as pa
    from pyarrow import csv as reader

    names = header_of(path, csv)
    try:
        rows = reader.read_csv(
            path,
            read_options=reader.ReadOptions(use_threads=False, encoding=csv.encoding),
            parse_options=reader.ParseOptions(delimiter=csv.delimiter, newlines_in_values=True),
            convert_options=reader.ConvertOptions(column_types=dict.fromkeys(names, pa.string())),
        )
    except (pa.ArrowInvalid, UnicodeError) as error:
        raise first_fault(path, csv) or DataError(f"{path}: {error}") from None
    last = rows.slice(max(0, rows.num_rows - 1)).to_pylist()
    if last and any("\n" in value for value in last[0].values()):
        fault = first_fault(path, csv)  # a quotation mark that is never closed takes in the rest of the file
        if fault:
            raise fault
    return rows


def _is_number(value: str) -> bool:
    import pyarrow as pa

    try:
        pa.scalar(value).cast(pa.float64())
    except pa.ArrowInvalid:
        return False
    return True


def _no_moments(column: Any) -> list[str]:  # noqa: ANN401  # pyarrow has no annotations
    """The values that are not of the kind that most are of; the first one where they are of none."""
    import pyarrow as pa

    values: list[str] = column.unique().to_pylist()
    for kind in (pa.float64(), pa.timestamp("us"), pa.timestamp("us", "UTC")):
        bad = [value for value in values if not _casts(value, kind)]
        if len(bad) * 2 < len(values):
            return bad
    return values[:1]


def _casts(value: str, kind: Any) -> bool:  # noqa: ANN401  # pyarrow has no annotations
    import pyarrow as pa

    try:
        pa.scalar(value).cast(kind)
    except pa.ArrowInvalid:
        return False
    return True


def _first(column: Any, values: Sequence[str]) -> int:  # noqa: ANN401  # pyarrow has no annotations
    """The first row that has one of the values."""
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pc.is_in(column, value_set=pa.array(values, column.type)).to_numpy(zero_copy_only=False)
    return int(np.flatnonzero(found)[0])


def _ordering(values: list[str]) -> Any:  # noqa: ANN401  # a key of numbers or of texts
    if values and all(_is_number(value) for value in values):
        return lambda i: (float(values[i]), values[i])
    return lambda i: values[i]
