"""Splits of a user's rows: nothing in two parts, groups whole, time in order, each fold once, whatever the data."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from trainables.data.faults import DataError
from trainables.data.row_splits import RowKeys, split_rows
from trainables.data.splits import Split, SplitPlan

FOLDS = st.integers(1, 4)


def keys(count: int, **more: Any) -> RowKeys:  # noqa: ANN401  # any field
    names = [f"c{i}" for i in range(10)] if "labels" in more else []
    return RowKeys(count, lambda row: f"rows.csv, line {row + 2}", "rows.csv", label_names=names, **more)


def check(split: Split, count: int, *, is_all: bool = True) -> None:
    rows = np.concatenate([split.train, split.validation, split.test])
    assert len(np.unique(rows)) == len(rows)
    assert min(len(split.train), len(split.validation), len(split.test)) > 0
    assert not is_all or len(rows) == count


def shuffle_everything(seed: int) -> None:
    np.random.seed(seed)  # noqa: NPY002  # the global state that a split must not depend on


@settings(deadline=None)  # scikit-learn is imported by the first
@given(st.lists(st.integers(0, 3), min_size=40, max_size=120), FOLDS, st.integers(0, 99), st.sampled_from([0, 8]))
def test_a_stratified_split_has_every_row_once_and_keeps_the_shares(
    drawn: list[int], folds: int, seed: int, given_test: int
) -> None:
    labels = np.array(drawn)
    searched = labels[: len(labels) - given_test]
    assume(len(set(searched.tolist())) == len(set(drawn)) > 1)
    assume(np.unique(searched, return_counts=True)[1].min() >= 8)
    found = keys(len(labels), labels=labels, given_test=given_test)
    validated = []
    for fold in range(folds):
        shuffle_everything(fold)
        split = split_rows(SplitPlan(seed, folds, fold), found)
        shuffle_everything(99)
        again = split_rows(SplitPlan(seed, folds, fold), found)
        assert all(np.array_equal(getattr(split, n), getattr(again, n)) for n in ("train", "validation", "test"))
        check(split, len(labels))
        if given_test:
            assert split.test.tolist() == list(range(len(labels) - 8, len(labels)))
        for label in np.unique(labels):
            share, expected = (
                np.mean(labels[split.train] == label),
                np.mean(labels[np.r_[split.train, split.validation]] == label),
            )
            assert abs(share - expected) < 0.1
        validated += split.validation.tolist()
    if folds > 1:
        assert sorted(validated + split.test.tolist()) == list(range(len(labels)))


def test_few_rows_are_split_where_the_shares_asked_for_leave_each_class_enough() -> None:
    labels = np.arange(10) % 2
    split = split_rows(SplitPlan(test_share=0.5, validation_share=0.5), keys(10, labels=labels))
    check(split, 10)
    assert [sorted(set(labels[part].tolist())) for part in (split.train, split.validation, split.test)] == [[0, 1]] * 3
    with pytest.raises(DataError, match="class 'c1' has 2 rows that are no test rows; folds is 3; at least 3"):
        split_rows(SplitPlan(folds=3, test_share=0.4), keys(9, labels=np.array([0, 0, 0, 0, 0, 0, 1, 1, 1])))
    with pytest.raises(DataError, match=r"rows\.csv: cannot be split"):
        split_rows(SplitPlan(test_share=0.5), keys(10, labels=labels))


@settings(deadline=None)  # scikit-learn is imported by the first
@given(st.lists(st.integers(0, 11), min_size=30, max_size=120), FOLDS, st.integers(0, 99), st.sampled_from([1, 2]))
def test_a_group_is_whole_in_one_part_and_validates_once(drawn: list[int], folds: int, seed: int, classes: int) -> None:
    groups = np.array(drawn)
    assume(len(np.unique(groups)) >= 9)
    more: dict[str, NDArray[Any]] = {"groups": groups}
    if classes > 1:
        more["labels"] = np.arange(len(groups)) % classes
    validated = []
    for fold in range(folds):
        try:
            split = split_rows(SplitPlan(seed, folds, fold), keys(len(groups), **more))
        except DataError as error:
            if "which no training row has" not in str(error):  # each of so few groups may have one class alone
                raise
            return
        check(split, len(groups))
        parts = [set(groups[part].tolist()) for part in (split.train, split.validation, split.test)]
        assert sum(map(len, parts)) == len(set().union(*parts))
        validated += split.validation.tolist()
    if folds > 1:
        assert sorted(validated + split.test.tolist()) == list(range(len(groups)))


@settings(deadline=None)  # scikit-learn is imported by the first
@given(st.lists(st.integers(0, 60), min_size=60, max_size=150), FOLDS, st.integers(0, 99))
def test_a_split_in_time_trains_on_the_past_and_parts_no_moment(drawn: list[int], folds: int, seed: int) -> None:
    moments = np.array(drawn)
    for fold in range(folds):
        try:
            split = split_rows(SplitPlan(seed, folds, fold), keys(len(moments), moments=moments))
        except DataError as error:
            if "too few for a part" not in str(error):  # where one moment has too many of the rows
                raise
            continue
        check(split, len(moments), is_all=fold == folds - 1 or folds == 1)
        assert moments[split.train].max() < moments[split.validation].min()
        assert moments[split.validation].max() < moments[split.test].min()


def test_test_rows_of_their_own_must_be_new_groups_and_later() -> None:
    groups = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    split = split_rows(SplitPlan(), keys(8, groups=groups, given_test=2))
    assert split.test.tolist() == [6, 7]
    groups[6] = 1
    with pytest.raises(DataError, match=r"line 8: this test row has the group of rows.csv, line 4; a group has one"):
        split_rows(SplitPlan(), keys(8, groups=groups, given_test=2))
    moments = np.array([5, 1, 4, 2, 3, 0, 7, 5])
    with pytest.raises(DataError, match=r"line 9: this test row is not later than rows.csv, line 2; test rows come"):
        split_rows(SplitPlan(), keys(8, moments=moments, given_test=2))
    moments[7] = 6
    assert split_rows(SplitPlan(), keys(8, moments=moments, given_test=2)).test.tolist() == [7, 6]


LABELS = np.array([0] * 20 + [1] * 5)


@pytest.mark.parametrize(
    ("found", "folds", "message"),
    [
        (keys(25, labels=LABELS), 5, "line 22: class 'c1' has 4 rows that are no test rows; folds is 5; at least 5"),
        (keys(25, labels=LABELS * 0), 1, "rows.csv: one class only, 'c0'; at least two are needed"),
        (keys(3, labels=np.array([0, 0, 1])), 1, "line 4: class 'c1' has 1 row; at least 3 are needed"),
        (keys(2), 1, "rows.csv: there are 2 rows; at least 3 are needed"),
        (keys(0), 1, "rows.csv: no rows"),
        (keys(9, groups=np.arange(9) % 2), 1, "rows.csv: 2 groups; at least 3 are needed for folds 1 and a test part"),
        (keys(9, groups=np.arange(9) % 5), 5, "rows.csv: 5 groups; at least 6 are needed for folds 5 and a test part"),
        (keys(9, groups=np.arange(9), moments=np.arange(9)), 1, "both group and time are named"),
        (keys(9, moments=np.zeros(9)), 1, "rows.csv: 9 rows are too few for a part"),
        (
            keys(9, moments=np.arange(9), labels=np.array([0, 1] * 4 + [2])), 1,
            "line 10: the test part has class 'c2', which no training row has",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_split_is_refused(found: RowKeys, folds: int, message: str) -> None:
    with pytest.raises(DataError) as refused:
        split_rows(SplitPlan(folds=folds), found)
    assert message in str(refused.value)
