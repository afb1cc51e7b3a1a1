"""Finds the line of a CSV file that is at fault. Slow, row by row: only for a file's header, and once it is refused."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from trainables.data.faults import DataError, refuse

_ANY_LENGTH: Final = 2**31 - 1


class Format(Protocol):
    """How a CSV file is written."""

    @property
    def delimiter(self) -> str:
        """The sign between cells."""

    @property
    def encoding(self) -> str:
        """The name of the encoding, as Python knows it."""


def header_of(path: Path, form: Format) -> list[str]:
    """The names of the columns; DataError where there are none, or one stands twice."""
    try:
        with _records(path, form) as records:
            _, names = next(records, (0, []))
    except (UnicodeError, LookupError, csv.Error) as error:
        raise first_fault(path, form) or DataError(f"{path}, line 1: {error}") from None
    if not names:
        refuse(path, "the file is empty", "its first line must name the columns")
    if "" in names:
        remedy = "name it, or leave it out (pandas writes none with index=False)"
        refuse(f"{path}, line 1", f"column {names.index('') + 1} has no name", remedy)
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        refuse(f"{path}, line 1", f"two columns are called '{twice[0]}'", "each needs a name of its own")
    return names


def line_of(path: Path, form: Format, row: int) -> int:
    """The line, from 1, in which a row of data begins, counted from 0 without the header and empty lines."""
    with _records(path, form) as records:
        return next(line for number, (line, _) in enumerate(records) if number == row + 1)


def first_fault(path: Path, form: Format) -> DataError | None:
    """What is wrong with the file as a CSV file: its encoding, a line with too few or too many cells, a quotation."""
    try:
        path.read_bytes().decode(form.encoding)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        given = error.object[error.start : error.start + 1].hex()
        return DataError(
            f"{path}, line {line}: the byte 0x{given} is not {form.encoding}; name the file's encoding, as in "
            "encoding='latin-1', or save it as UTF-8"
        )
    except LookupError:
        return DataError(f"{path}: no encoding is called '{form.encoding}'; take utf-8, latin-1, cp1252, ...")
    return _first_ragged(path, form)


def _first_ragged(path: Path, form: Format) -> DataError | None:
    line, width = 0, 0
    try:
        with _records(path, form, strict=True) as records:
            for line, cells in records:
                width = width or len(cells)
                if len(cells) != width:
                    return DataError(
                        f"{path}, line {line}: {len(cells)} cells; the header has {width}: mend the line, put cells "
                        f"that hold '{form.delimiter}' in quotation marks, or name another delimiter"
                    )
    except csv.Error:
        return DataError(f"{path}, below line {line}: a quotation mark is never closed; close it, or double it")
    return None


@contextmanager
def _records(path: Path, form: Format, *, strict: bool = False) -> Iterator[Iterator[tuple[int, list[str]]]]:
    """The rows of a file, the header first, each with the line in which it begins."""
    before = csv.field_size_limit(_ANY_LENGTH)
    try:
        encoding = "utf-8-sig" if form.encoding.lower() in ("utf-8", "utf8") else form.encoding
        with path.open(newline="", encoding=encoding) as file:
            yield _numbered(file, form.delimiter, strict=strict)
    finally:
        csv.field_size_limit(before)


def _numbered(file: Iterator[str], delimiter: str, *, strict: bool) -> Iterator[tuple[int, list[str]]]:
    reader = csv.reader(file, delimiter=delimiter, strict=strict)
    start = 1
    for cells in reader:
        if cells:
            yield start, cells
        start = reader.line_num + 1
