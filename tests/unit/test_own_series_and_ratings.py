"""A user's series and ratings, wide and long, against pandas; no part knows of what comes after it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from statsmodels.datasets import macrodata

from trainables.data.faults import DataError
from trainables.data.rating_file import RatingFile
from trainables.data.series_file import SeriesFile


def macro() -> pd.DataFrame:
    frame = macrodata.load_pandas().data[["unemp", "infl"]]
    return frame.assign(day=pd.date_range("1959-01-01", periods=len(frame), freq="QS"))


def test_wide_and_long_are_the_same_windows(tmp_path: Path) -> None:
    wide = macro()
    wide.sample(frac=1, random_state=1).to_csv(tmp_path / "wide.csv", index=False)
    wide.melt("day").sample(frac=1, random_state=2).to_parquet(tmp_path / "long.parquet")
    shape: dict[str, Any] = {"time": "day", "window": 8, "horizon": 4}
    one = SeriesFile(str(tmp_path / "wide.csv"), columns=["infl", "unemp"], **shape)
    other = SeriesFile(str(tmp_path / "long.parquet"), series="variable", value="value", **shape)
    one.setup()
    other.setup()
    assert one.series == other.series == ["infl", "unemp"]
    for name in ("train", "validation", "test"):
        for mine, theirs in zip(one.parts[name], other.parts[name], strict=True):
            torch.testing.assert_close(mine, theirs)
    values = wide[["infl", "unemp"]].to_numpy()
    known = len(one.parts["train"][0]) + 8 + 4 - 1
    expected = (values - values[:known].mean(0)) / values[:known].std(0)
    torch.testing.assert_close(one.parts["train"][0][3], torch.tensor(expected[3:11], dtype=torch.float32))
    torch.testing.assert_close(one.parts["test"][1][-1], torch.tensor(expected[-4:], dtype=torch.float32))
    later = known + len(one.parts["validation"][0])
    assert later < len(values) - len(one.parts["test"][0])


def test_a_missing_value_is_the_one_before_it(tmp_path: Path) -> None:
    wide = macro()
    holes = wide.copy()
    holes.loc[[5, 6, 50], "infl"] = np.nan
    holes.to_csv(tmp_path / "w.csv", index=False)
    holes.melt("day").dropna().to_csv(tmp_path / "l.csv", index=False)
    holes.ffill().to_csv(tmp_path / "f.csv", index=False)
    full = SeriesFile(str(tmp_path / "f.csv"), "day", window=8, horizon=4)
    full.setup()
    for data in (
        SeriesFile(str(tmp_path / "w.csv"), "day", window=8, horizon=4, missing="previous"),
        SeriesFile(str(tmp_path / "l.csv"), "day", None, "variable", "value", 8, 4, "previous"),
    ):
        data.setup()
        order = [full.series.index(name) for name in data.series]
        torch.testing.assert_close(data.parts["train"][0], full.parts["train"][0][:, :, order])


LONG = {"series": "s", "value": "v"}
WIDE_TEXT = "time,a\n" + "".join(f"{i},{i % 7}\n" for i in range(40))
LONG_TEXT = "time,s,v\n" + "".join(f"{i},{s},{i % 7}\n" for i in range(40) for s in "ab")


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (WIDE_TEXT, {"window": 30, "horizon": 9}, "s.csv: too few steps for window 30 and horizon 9"),
        (WIDE_TEXT, {"columns": ["b"]}, "s.csv: no column 'b'"),
        (WIDE_TEXT.replace("\n5,5", "\n5,"), {}, "s.csv, line 7: no value of 'a'; mend it, or set missing: previous"),
        (WIDE_TEXT.replace("\n0,0", "\n0,"), {"missing": "previous"}, "s.csv: no value of a at the first time"),
        (WIDE_TEXT.replace("\n5,5", "\n4,5"), {}, "s.csv, line 7: 'time' is that of"),
        (WIDE_TEXT.replace("\n5,5", "\n5,five"), {}, "s.csv, line 7: 'a' is 'five'"),
        ("time\n1\n2\n", {}, "s.csv: no column but 'time'"),
        (LONG_TEXT.replace("\n5,a,5", "\n5,,5"), LONG, "s.csv, line 12: 's' is empty"),
        (LONG_TEXT.replace("\n5,a,5", "\n5,a,"), LONG, "s.csv, line 12: no 'v'"),
        (LONG_TEXT.replace("\n5,a,5", "\n5,b,5"), LONG, "s.csv, line 13: 'time' of the series is that of"),
        (LONG_TEXT.replace("\n5,a,5", ""), LONG, "s.csv, line 12: series 'a' has no row for its time"),
    ],
)
def test_a_fault_of_a_series_is_named_with_its_line(
    tmp_path: Path, text: str, options: dict[str, Any], message: str
) -> None:
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(DataError) as refused:
        SeriesFile(str(tmp_path / "s.csv"), **{"window": 4, "horizon": 2, **options}).setup()
    assert message in str(refused.value)


def test_a_file_is_long_or_wide(tmp_path: Path) -> None:
    for options in ({"series": "s"}, {**LONG, "columns": ["a"]}, {"window": 0}):
        with pytest.raises(ValueError, match="name series and value for a long file"):
            SeriesFile(str(tmp_path), **options)


def ratings(count: int = 300) -> pd.DataFrame:
    random = np.random.default_rng(0)
    return pd.DataFrame({
        "user": random.choice(["ann", "bob", "cid", "dan"], count), "item": random.integers(100, 110, count),
        "rating": random.integers(1, 6, count), "hour": random.integers(0, 24, count).astype(float),
        "device": random.choice(["desk", "phone", "tablet"], count), "when": random.permutation(count),
    })  # fmt: skip


def test_ratings_in_time_have_a_graph_of_what_came_before(tmp_path: Path) -> None:
    frame = ratings()
    frame.to_csv(tmp_path / "r.csv", index=False)
    data = RatingFile(str(tmp_path / "r.csv"), context=["hour", "device"], time="when")
    data.setup()
    assert data.sizes == {"users": 5, "items": 11, "context": 4}
    ordered = frame.sort_values("when", ignore_index=True)
    history, later = ordered[:150], ordered[150:]
    users, items = sorted(frame["user"].unique()), sorted(frame["item"].unique())
    liked = history[history["rating"] >= 4]
    edges = {(users.index(u) + 1, items.index(i) + 1) for u, i in zip(liked["user"], liked["item"], strict=True)}
    assert {tuple(edge) for edge in data.shared[0].T.tolist()} == edges
    test = later[-30:]
    assert data.parts["test"][0].tolist() == [users.index(u) + 1 for u in test["user"]]
    assert data.parts["test"][3].tolist() == test["rating"].tolist()
    train = later[: len(data.parts["train"][0])]
    hours = (test["hour"] - train["hour"].mean()) / train["hour"].std(ddof=0)
    np.testing.assert_allclose(data.parts["test"][2][:, 0], hours, rtol=1e-4, atol=1e-5)
    flags = pd.get_dummies(test["device"]).to_numpy(float)
    assert data.parts["test"][2][:, 1:].tolist() == flags.tolist()
    assert [len(part[0]) for part in data.parts.values()] == [96, 24, 30]
    batch = next(iter(data.train_dataloader()))
    assert torch.equal(batch[3], data.shared[0])


def test_clicks_are_stratified_and_who_is_new_has_number_0(tmp_path: Path) -> None:
    frame = ratings().assign(click=lambda rows: (rows["rating"] > 4).astype(int))
    frame.loc[299, "user"] = "eve"
    frame.to_parquet(tmp_path / "r.parquet")
    frame.iloc[:20].assign(user="zoe").to_parquet(tmp_path / "test.parquet")
    data = RatingFile(
        str(tmp_path / "r.parquet"), target="click", answer="click", folds=3, test_path=str(tmp_path / "test.parquet")
    )
    data.setup()
    assert data.parts["test"][0].tolist() == [0] * 20
    assert data.parts["train"][3].dtype == torch.int64
    assert data.parts["train"][2].shape[1] == 0
    shares = [data.parts[name][3].float().mean().item() for name in ("train", "validation")]
    assert abs(shares[0] - shares[1]) < 0.02
    assert sum(len(data.parts[name][0]) for name in ("train", "validation")) == 150


@pytest.mark.parametrize(
    ("column", "value", "options", "message"),
    [
        ("rating", None, {}, "r.csv, line 5: 'rating' is empty; rate it"),
        ("rating", 1, {"answer": "click"}, "r.csv, line 2: 'rating' is 5; a click is 0 or 1"),
        ("user", "", {}, "r.csv, line 5: 'user' is empty"),
        ("hour", None, {"context": ["hour"]}, "r.csv, line 5: no value of hour (1 row in all)"),
        ("hour", 1, {"context": ["hours"]}, "no column 'hours'; did you mean 'hour'?"),
        ("when", "", {"time": "when"}, "r.csv, line 5: 'when' is empty; each row needs a time"),
    ],
)
def test_a_fault_of_ratings_is_named_with_its_line(
    tmp_path: Path, column: str, value: object, options: dict[str, Any], message: str
) -> None:
    frame = ratings().astype(object)
    frame.loc[0, "rating"] = 5
    frame.loc[3, column] = value
    frame.to_csv(tmp_path / "r.csv", index=False)
    with pytest.raises(DataError) as refused:
        RatingFile(str(tmp_path / "r.csv"), **options).setup()
    assert message in str(refused.value)


def test_ratings_need_two_answers_and_a_history(tmp_path: Path) -> None:
    ratings().assign(rating=3).to_csv(tmp_path / "r.csv", index=False)
    with pytest.raises(DataError, match="'rating' is 3 everywhere"):
        RatingFile(str(tmp_path / "r.csv")).setup()
    with pytest.raises(ValueError, match="history_share 1 must lie between 0 and 1"):
        RatingFile(str(tmp_path / "r.csv"), history_share=1)
