"""Splits the rows of a user's files: stratified, by groups that stay whole, or in order of time."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainables.data.faults import DataError, refuse, some
from trainables.data.splits import Split, SplitPlan

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RowKeys:
    """What a split goes by, and how a message names it.

    At most one of `groups` and `moments`. The last `given_test` rows are the test part; 0 lets the plan choose it.
    """

    count: int
    place: Callable[[int], str]
    """Names a row."""
    whole: str
    """Names the file or folder."""
    labels: Rows | None = None
    """Class numbers, where the targets are classes."""
    label_names: Sequence[str] = ()
    groups: Rows | None = None
    moments: NDArray[Any] | None = None
    given_test: int = 0


def split_rows(plan: SplitPlan, keys: RowKeys) -> Split:
    """Parts of the rows: every row in one part at most, the same for the same plan whatever the random state.

    By groups: each is whole in one part, and shares are shares of the groups. In order of time: the last rows test,
    those before them validate, and rows of one moment stay together. Otherwise at random, stratified by the labels
    where there are some. DataError where there are too few rows, and for a class that the training part lacks.
    """
    if keys.groups is not None and keys.moments is not None:
        refuse(keys.whole, "both group and time are named", "a split goes by one of them")
    if keys.groups is not None:
        split = _by_group(plan, keys, keys.groups)
    elif keys.moments is not None:
        split = _in_time(plan, keys, keys.moments)
    else:
        split = _stratified(plan, keys)
    if not all(len(part) for part in (split.train, split.validation, split.test)):
        refuse(keys.whole, f"{some(keys.count, 'row')} are too few for a part", "give more rows, or greater shares")
    if keys.labels is not None:
        _check_labels(split, keys, keys.labels)
    return split


def _stratified(plan: SplitPlan, keys: RowKeys) -> Split:
    labels = np.zeros(keys.count, dtype=np.int64) if keys.labels is None else keys.labels
    searched = keys.count - keys.given_test
    _check_sizes(keys, labels[:searched], 2 if keys.given_test else 3)
    try:
        if keys.given_test:
            search, test = np.arange(searched), np.arange(searched, keys.count)
        else:
            search, test = plan.tested(labels)
        if plan.folds > 1:
            _check_sizes(keys, labels[search], plan.folds, f" that are no test rows; folds is {plan.folds}")
        return Split(*plan.validated(search, labels), test)
    except DataError:
        raise
    except ValueError as error:  # scikit-learn's, where a share leaves a class without a row
        msg = f"{keys.whole}: cannot be split: {error}; give more rows or other shares"
        raise DataError(msg) from error


def _check_sizes(keys: RowKeys, labels: Rows, least: int, why: str = "") -> None:
    counts = np.bincount(labels, minlength=len(keys.label_names))
    present = np.flatnonzero(counts)
    if not present.size:
        refuse(keys.whole, "no rows", "there must be a row for each sample")
    smallest = present[np.argmin(counts[present])]
    if counts[smallest] >= least:
        return
    name = f"class '{keys.label_names[smallest]}' has" if keys.label_names else "there are"
    first = keys.place(int(np.flatnonzero(keys.labels == smallest)[0])) if keys.labels is not None else keys.whole
    refuse(first, f"{name} {some(int(counts[smallest]), 'row')}{why}", f"at least {least} are needed")


def _by_group(plan: SplitPlan, keys: RowKeys, groups: Rows) -> Split:
    from sklearn.model_selection import GroupKFold, GroupShuffleSplit, StratifiedGroupKFold

    rows, searched = np.arange(keys.count), keys.count - keys.given_test
    search, test = rows[:searched], rows[searched:]
    if keys.given_test:
        both = np.flatnonzero(np.isin(groups[test], groups[search]))
        if both.size:
            row = int(test[both[0]])
            first = int(np.flatnonzero(groups[search] == groups[row])[0])
            refuse(keys.place(row), f"this test row has the group of {keys.place(first)}", "a group has one part")
    needed = max(2, plan.folds) + (0 if keys.given_test else 1)
    found = len(np.unique(groups[search]))
    if found < needed:
        refuse(keys.whole, some(found, "group"), f"at least {needed} are needed for folds {plan.folds} and a test part")
    if not keys.given_test:
        chosen = GroupShuffleSplit(1, test_size=plan.test_share, random_state=plan.seed)
        search, test = next(chosen.split(rows, groups=groups))
        found = len(np.unique(groups[search]))
        if found < max(2, plan.folds):
            refuse(keys.whole, f"{some(found, 'group')} beside the test part", f"folds {plan.folds} need more")
    if plan.folds == 1:
        cuts = GroupShuffleSplit(1, test_size=plan.validation_share, random_state=plan.seed)
    else:
        kind = GroupKFold if keys.labels is None else StratifiedGroupKFold
        cuts = kind(plan.folds, shuffle=True, random_state=plan.seed)
    labels = np.zeros(keys.count, dtype=np.int64) if keys.labels is None else keys.labels
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of a class that is not in every fold: only training needs it
        try:
            parts = list(cuts.split(search, labels[search], groups[search]))
        except ValueError as error:
            msg = f"{keys.whole}: cannot be split into {plan.folds} folds: {error}; take fewer folds"
            raise DataError(msg) from error
    train, validation = parts[plan.fold]
    return Split(search[train], search[validation], test)


def _in_time(plan: SplitPlan, keys: RowKeys, moments: NDArray[Any]) -> Split:
    searched = keys.count - keys.given_test
    if keys.given_test:
        early = int(np.argmin(moments[searched:])) + searched
        late = int(np.argmax(moments[:searched]))
        if moments[early] <= moments[late]:
            refuse(keys.place(early), f"this test row is not later than {keys.place(late)}", "test rows come last")
    order = np.argsort(moments, kind="stable")
    sorted_moments = moments[order]
    search = searched if keys.given_test else _snapped(sorted_moments, plan.search_in_time(keys.count))
    start, end = (_snapped(sorted_moments, cut) if cut < search else search for cut in plan.validated_in_time(search))
    return Split(order[:start], order[start:end], order[search:])


def _snapped(moments: NDArray[Any], cut: int) -> int:
    """A cut moved down to where its moment begins."""
    return int(np.searchsorted(moments, moments[cut], side="left"))


def _check_labels(split: Split, keys: RowKeys, labels: Rows) -> None:
    trained = np.unique(labels[split.train])
    if len(trained) == 1 and len(np.unique(labels)) == 1:
        refuse(keys.whole, f"one class only, '{keys.label_names[trained[0]]}'", "at least two are needed")
    for part, rows in (("validation", split.validation), ("test", split.test)):
        unknown = rows[~np.isin(labels[rows], trained)]
        if unknown.size:
            row = int(unknown.min())
            fault = f"the {part} part has class '{keys.label_names[labels[row]]}', which no training row has"
            refuse(keys.place(row), fault, "give training rows of it, split in another way, or leave such rows out")
