"""Dates in figures and the same dates written out in words: generated from the calendar, so the truth is known."""

from __future__ import annotations

import datetime as dt
from functools import cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from trainables.data.splits import ArrayDataModule, SplitPlan

FIGURES: Final = "0123456789-./"
_FORMATS: Final = ("%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y")
_UNITS: Final = [
    "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve", "thirteen",
    "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
_TENS: Final = [
    "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
]  # fmt: skip
_ORDINALS: Final = [
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh",
    "twelfth", "thirteenth", "fourteenth", "fifteenth", "sixteenth", "seventeenth", "eighteenth", "nineteenth",
    "twentieth",
]  # fmt: skip
_MONTHS: Final = [
    "january", "february", "march", "april", "may", "june", "july", "august", "september", "october", "november",
    "december",
]  # fmt: skip
WORDS: Final = ["", "<end>", *_UNITS, *_TENS, *_ORDINALS, "thirtieth", *_MONTHS, "of", "oh", "hundred"]
_FIRST: Final = dt.date(1900, 1, 1)
_DAYS: Final = (dt.date(2100, 1, 1) - _FIRST).days
_LONGEST: Final = 8  # the twenty, first, of, month, nineteen, eighty, four, and the end


class WrittenDates(ArrayDataModule):
    """Batches of dates in figures (batch, 10) and in words (batch, 8), both numbered, 0 after the end.

    `2026-11-23`, `23.11.2026` or `11/23/2026` becomes `twenty third of november twenty twenty six <end>`. Days are
    drawn without repetition from 1900 to 2099, each in one of the three orders. Figures are numbered from 1 as in
    `FIGURES`, words as in `WORDS`. Generated: no person wrote these dates.

    Args:
        dates: How many dates there are in all.
        batch_size: Dates per training batch.
        folds: Number of cross-validation folds; 1 means one validation split.
        fold: Which fold validates, from 0.
        seed: Seed of the dates and the splits alone; the order of batches follows the global seed.
        validation_share: Share of the non-test dates that validates, where `folds` is 1.
        test_share: Share of all dates that no search sees.
    """

    def __init__(  # noqa: PLR0913, PLR0917  # knobs of a data module are arguments
        self,
        dates: int = 1500,
        batch_size: int = 64,
        folds: int = 1,
        fold: int = 0,
        seed: int = 0,
        validation_share: float = 0.2,
        test_share: float = 0.2,
    ) -> None:
        super().__init__(batch_size, SplitPlan(seed, folds, fold, validation_share, test_share))
        self.save_hyperparameters()
        self.dates = dates

    def load(self) -> None:
        """Draw, write out and split the dates."""
        self.set_parts(*_draw(self.dates, self.plan.seed), split=self.plan.split_evenly(self.dates))


@cache
def _draw(dates: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    random = np.random.default_rng(seed)
    days = [_FIRST + dt.timedelta(int(day)) for day in random.choice(_DAYS, dates, replace=False)]
    numbers = {word: number for number, word in enumerate(WORDS)}
    figures, words = np.zeros((dates, 10), dtype=np.int64), np.zeros((dates, _LONGEST), dtype=np.int64)
    for row, (day, order) in enumerate(zip(days, random.integers(len(_FORMATS), size=dates), strict=True)):
        figures[row] = [FIGURES.index(figure) + 1 for figure in day.strftime(_FORMATS[order])]
        written = [numbers[word] for word in [*written_out(day), "<end>"]]
        words[row, : len(written)] = written
    return figures, words


def written_out(day: dt.date) -> list[str]:
    """The words of a date between 1900 and 2099, as people read it: `twenty third of november nineteen oh four`."""
    century, rest = divmod(day.year, 100)
    year = _below_hundred(rest) if rest >= 10 else ["oh", *_below_hundred(rest)]  # noqa: PLR2004  # of two figures
    return [
        *_ordinal(day.day),
        "of",
        _MONTHS[day.month - 1],
        *_below_hundred(century),
        *(year if rest else ["hundred"]),
    ]


def _below_hundred(number: int) -> list[str]:
    if number <= len(_UNITS):
        return [_UNITS[number - 1]]
    tens, units = divmod(number, 10)
    return [_TENS[tens - 2], *_UNITS[max(0, units - 1) : units]]


def _ordinal(number: int) -> list[str]:
    if number <= len(_ORDINALS):
        return [_ORDINALS[number - 1]]
    tens, units = divmod(number, 10)
    return [_TENS[tens - 2], _ORDINALS[units - 1]] if units else ["thirtieth"]
