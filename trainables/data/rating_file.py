"""A user's own ratings or clicks: who was shown what, in which context, and what they did."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from trainables.data.faults import refuse
from trainables.data.impressions import Answer
from trainables.data.row_splits import RowKeys, split_rows
from trainables.data.splits import ArrayDataModule, Split, SplitPlan
from trainables.data.table_columns import Inputs, Missing, check_missing, known_codes, read_inputs
from trainables.data.tables import CSVFormat, Table, read_table

_BOTH = 2


class RatingFile(ArrayDataModule):
    """Batches of users (batch,), items (batch,), contexts (batch, numbers), the graph (2, edges), answers (batch,).

    The graph is made of a part of the rows, the history, which nothing is trained or tested on, so that no answer is
    among its own edges: an edge for each row that was liked. The history is the earliest rows, or drawn ones where no
    time is named. Users and items that history or training part have count from 1, 0 is any other. In the context
    numbers are standardised by the training part; a category becomes a 0 or 1 for each value.

    Args:
        path: A .csv, .tsv or .parquet file with names of columns, a row for each answer.
        user: The column of users.
        item: The column of items.
        target: The column of answers.
        answer: `click` (0 or 1) or `rating` (numbers).
        context: Columns that describe the moment: numbers or categories, by nine tenths of their values.
        categorical: Columns of the context that are categories, whatever they hold.
        time: A column; history, training, validation and test follow each other in its order.
        liked_from: The least rating that makes an edge; for clicks it is 1.
        history_share: Share of the rows (without those of `test_path`) that the graph is made of.
        missing: Rows that lack a context: `error`, `fill` (the training part's mean, no category), or `drop`.
        test_path: A file whose rows are the test part, in place of `test_share`.
        delimiter: The sign between a CSV file's cells; a tab for .tsv.
        encoding: A CSV file's encoding.
        batch_size: Rows per training batch.
        folds: Number of cross-validation folds; 1 means one validation split.
        fold: Which fold validates, from 0.
        seed: Seed of the splits alone; the order of batches follows the global seed.
        validation_share: Share of the rows between history and test that validates, where `folds` is 1.
        test_share: Share of the rows after the history that no search sees.
    """

    def __init__(  # noqa: PLR0913, PLR0917  # knobs of a data module are arguments
        self,
        path: str,
        user: str = "user",
        item: str = "item",
        target: str = "rating",
        answer: Answer = "rating",
        context: list[str] | None = None,
        categorical: list[str] | None = None,
        time: str = "",
        liked_from: float = 4.0,
        history_share: float = 0.5,
        missing: Missing = "error",
        test_path: str = "",
        delimiter: str = ",",
        encoding: str = "utf-8",
        batch_size: int = 128,
        folds: int = 1,
        fold: int = 0,
        seed: int = 0,
        validation_share: float = 0.2,
        test_share: float = 0.2,
    ) -> None:
        super().__init__(batch_size, SplitPlan(seed, folds, fold, validation_share, test_share))
        if not 0 < history_share < 1:
            msg = f"history_share {history_share} must lie between 0 and 1"
            raise ValueError(msg)
        self.save_hyperparameters(logger=False)  # a model may have arguments of the same names
        self.files, self.csv = (path, test_path), CSVFormat(delimiter, encoding)
        self.user, self.item, self.target, self.time = user, item, target, time
        self.is_click, self.liked_from = answer == "click", 1.0 if answer == "click" else liked_from
        self.context, self.categorical = context or [], categorical or []
        self.history_share = history_share
        self.missing: Missing = missing

    def load(self) -> None:
        """Read and check the rows, make the graph of the history and split the others."""
        table = read_table(*self.files, self.csv)
        table.require(self.user, self.item, self.target)
        answers = self._answers(table)
        pairs = np.stack([table.full_codes(name, "each row needs one")[0] for name in (self.user, self.item)])
        inputs = read_inputs(table, self.context, self.categorical, [])
        check_missing(table, inputs, self.missing)
        rows = np.flatnonzero(~inputs.is_missing()) if self.missing == "drop" else np.arange(len(table))
        moments = table.moments(self.time) if self.time else None
        history, later = self._history(rows, table, moments)
        keys = RowKeys(
            len(later), lambda row: table.place(int(later[row])), self.files[0],
            moments=None if moments is None else moments[later], given_test=int((later >= table.searched).sum()),
        )  # fmt: skip
        if self.is_click:
            keys = replace(keys, labels=answers[later].astype(np.int64), label_names=["0", "1"])
        split = split_rows(self.plan, keys)
        self._set(
            answers, pairs, inputs, Split(later[split.train], later[split.validation], later[split.test]), history
        )

    def _history(
        self, rows: NDArray[np.int64], table: Table, moments: NDArray[Any] | None
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The rows that make the graph, and the others in the file's order."""
        searched = rows[rows < table.searched]
        if moments is None:
            order = np.random.default_rng(self.plan.seed).permutation(searched)
        else:
            order = searched[np.argsort(moments[searched], kind="stable")]
        history = np.sort(order[: round(len(order) * self.history_share)])
        return history, np.setdiff1d(rows, history)

    def _set(
        self, answers: NDArray[Any], pairs: NDArray[np.int64], inputs: Inputs, split: Split, history: NDArray[np.int64]
    ) -> None:
        trained = np.concatenate([history, split.train])
        searched = np.concatenate([trained, split.validation])
        known = np.stack([known_codes(codes, trained) for codes in pairs])
        liked = history[answers[history] >= self.liked_from]
        edges = np.unique(known[:, liked], axis=1)
        self.shared = (torch.from_numpy(edges),)
        flags = [
            (column[:, None] == np.arange(1, count)).astype(np.float64)
            for column, count in zip(inputs.numbered(split.train).T, inputs.sizes(searched), strict=True)
        ]
        context = np.concatenate([inputs.filled(split.train), *flags], axis=1)
        users, items = (len(np.unique(codes[searched])) + 1 for codes in pairs)
        self.sizes = {"users": users, "items": items, "context": context.shape[1]}
        self.set_parts(*known, context, answers.astype(np.int64) if self.is_click else answers, split=split)

    def _answers(self, table: Table) -> NDArray[np.float64]:
        answers = table.numbers(self.target)
        wrong = np.isnan(answers)
        if self.is_click:
            wrong |= ~np.isin(answers, (0, 1))
        if wrong.any():
            row = int(np.flatnonzero(wrong)[0])
            given = "empty" if np.isnan(answers[row]) else f"{answers[row]:g}"
            refuse(table.place(row), f"'{self.target}' is {given}", "a click is 0 or 1" if self.is_click else "rate it")
        if len(np.unique(answers)) < _BOTH:
            refuse(table.paths[0], f"'{self.target}' is {answers[0]:g} everywhere", "two answers are needed")
        return answers
