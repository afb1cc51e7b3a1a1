"""A user's table becomes what pandas and scikit-learn make of it; each fault is named with its file and line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_diabetes, load_wine
from sklearn.impute import SimpleImputer
from sklearn.preprocessing import OrdinalEncoder, StandardScaler

from trainables.data.faults import DataError
from trainables.data.table_file import TableFile
from trainables.data.tables import CSVFormat, read_table

ROWS = "".join(f"{i},{'uv'[i % 2]},{'pq'[i % 3 == 0]}\n" for i in range(30))
GOOD = "a,b,y\n" + ROWS


def wine() -> pd.DataFrame:
    frame = load_wine(as_frame=True).frame
    frame["target"] = frame["target"].map({0: "barolo", 1: "grignolino", 2: "barbera"})
    frame["maker"] = np.random.default_rng(0).choice(["x", "y", "z, with a comma", 'a "quoted"\nline'], len(frame))
    frame["row"] = np.arange(len(frame))
    holes = np.random.default_rng(1).random(len(frame)) < 0.1
    frame.loc[holes, "ash"] = np.nan
    frame.loc[holes[::-1], "maker"] = None
    return frame


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".parquet"])
def test_a_table_becomes_what_scikit_learn_makes_of_it(tmp_path: Path, suffix: str) -> None:
    frame, path = wine(), tmp_path / f"wine{suffix}"
    if suffix == ".parquet":
        frame.astype({"target": "category"}).set_index(frame["row"].to_numpy() * 2).to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
    data = TableFile(str(path), "target", missing="fill")
    data.setup()
    assert data.classes == ["barbera", "barolo", "grignolino"]
    assert data.categorical == ("maker",)
    assert data.sizes == {"numbers": 14, "categories": [5], "classes": 3}
    codes = frame["target"].map(data.classes.index).to_numpy()
    split = data.plan.split(codes)
    numbers = frame[list(data.numerical)].to_numpy(float)
    filled = SimpleImputer(keep_empty_features=True).fit(numbers[split.train]).transform(numbers)
    expected = StandardScaler().fit(filled[split.train]).transform(filled)
    makers = frame["maker"].fillna("").to_numpy().astype(object)[:, None]
    known = [sorted(set(makers[split.train, 0]) - {""})]
    encoder = OrdinalEncoder(categories=known, handle_unknown="use_encoded_value", unknown_value=-1)
    categories = encoder.fit(np.array(known).T).transform(makers) + 1
    for name in ("train", "validation", "test"):
        rows = getattr(split, name)
        np.testing.assert_allclose(data.parts[name][0], expected[rows], rtol=1e-4, atol=1e-5)
        assert data.parts[name][1].tolist() == categories[rows].tolist()
        assert data.parts[name][2].tolist() == codes[rows].tolist()


def test_numbers_are_predicted_in_deviations_of_the_training_part(tmp_path: Path) -> None:
    frame = load_diabetes(as_frame=True, scaled=False).frame
    frame.to_csv(tmp_path / "d.csv", index=False)
    data = TableFile(str(tmp_path / "d.csv"), "target", "number", columns=["age", "bmi"], categorical=["sex"])
    data.setup()
    assert data.numerical == ("age", "bmi")
    split = data.plan.split_evenly(len(frame))
    scaled = StandardScaler().fit(frame[["target"]].to_numpy()[split.train]).transform(frame[["target"]].to_numpy())
    np.testing.assert_allclose(data.parts["test"][-1], scaled[split.test, 0], rtol=1e-4)


def test_what_the_training_part_lacks_is_unknown_and_sizes_do_not_depend_on_the_fold(tmp_path: Path) -> None:
    rows = "".join(f"{i},k{i % 12},{'pq'[i % 2]}\n" for i in range(60))
    (tmp_path / "t.csv").write_text("a,b,target\n" + rows + "60,rare,p\n")
    sizes, unknown = [], 0
    for fold in range(5):
        data = TableFile(str(tmp_path / "t.csv"), seed=3, folds=5, fold=fold)
        data.setup()
        sizes.append(data.sizes)
        assert 0 not in data.parts["train"][1]
        unknown += int((data.parts["validation"][1] == 0).sum())
    assert sizes == sizes[:1] * 5
    assert unknown == 1


def test_groups_times_a_test_file_and_rows_that_are_dropped(tmp_path: Path) -> None:
    lines = [f"{i if i != 7 else ''},{'pq'[i % 2]},g{i // 4},2026-01-{i + 1:02}\n" for i in range(28)]
    (tmp_path / "t.csv").write_text("a,target,who,day\n" + "".join(lines))
    (tmp_path / "more.csv").write_text("a,target,who,day\n90,p,h,2026-02-01\n91,q,h,2026-02-02\n")
    options: dict[str, Any] = {"missing": "drop", "test_path": str(tmp_path / "more.csv")}
    data = TableFile(str(tmp_path / "t.csv"), group="who", ignore=["day"], **options)
    data.setup()
    assert [len(part[0]) for part in data.parts.values()] in ([19, 8, 2], [20, 7, 2])
    data = TableFile(str(tmp_path / "t.csv"), time="day", ignore=["who"], **options)
    data.setup()
    assert data.parts["train"][0].max() < data.parts["validation"][0].min() < data.parts["test"][0].min()
    assert len(data.parts["train"][0]) == 22  # a fifth of the 27 rows that are left validates


def test_a_file_that_changes_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(GOOD)
    assert len(read_table(str(path))) == 30
    path.write_text(GOOD + "9,u,p\n")
    assert len(read_table(str(path))) == 31


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (GOOD, {"target": "yy"}, "t.csv: no column 'yy'; did you mean 'y'? there are a, b, y"),
        (GOOD.replace("a,b,y", "price,b,y"), {"columns": ["prize"]}, "no column 'prize'; did you mean 'price'? there"),
        (GOOD, {"columns": ["y"]}, "'y' is the target and among the columns"),
        (GOOD, {"ignore": ["a", "b"]}, "no column is an input"),
        (GOOD, {"categorical": ["a"], "numerical": ["a"]}, "column 'a' is named as categorical and as numerical"),
        (GOOD.replace("\n7,", "\n7x,"), {}, "t.csv, line 9: 'a' is '7x'; a finite number is needed"),
        (GOOD, {"numerical": ["b"]}, "t.csv, line 2: 'b' is 'u'; a finite number"),
        (GOOD.replace("\n7,", "\n\n\ninf,"), {}, "t.csv, line 11: 'a' is inf; a finite number"),
        (GOOD.replace("\n7,", "\nNA,"), {}, "t.csv, line 9: no value of a (1 row in all); mend it, or set missing"),
        (GOOD.replace("\n7,v", "\n,?"), {}, "t.csv, line 9: no value of a, b (1 row in all)"),
        (GOOD + '9,"two\nlines",p\n9,u,\n', {}, "t.csv, line 34: the target 'y' is empty"),
        (GOOD, {"target_kind": "number"}, "t.csv, line 2: 'y' is 'q'"),
        (GOOD.replace("7,v", "7;v"), {}, "t.csv, line 9: 2 cells; the header has 3"),
        (GOOD.replace("7,v", "7,v,w"), {}, "t.csv, line 9: 4 cells; the header has 3"),
        (GOOD.replace("7,v", '7,"v'), {}, "t.csv, below line 8: a quotation mark is never closed"),
        (GOOD.replace("7,v", "7,é"), {"encoding": "ascii"}, "t.csv, line 9: the byte 0xc3 is not ascii"),
        (GOOD.replace("7,v", "7,é").encode("latin-1"), {}, "line 9: the byte 0xe9 is not utf-8; name the file's enc"),
        (GOOD, {"encoding": "utf-88"}, "t.csv: no encoding is called 'utf-88'"),
        ("", {}, "t.csv: the file is empty; its first line must name the columns"),
        ("a,b,y\n", {}, "t.csv: no rows"),
        (",a,y\n0,1,p\n", {}, "t.csv, line 1: column 1 has no name; name it, or leave it out (pandas"),
        ("a,b,a\n1,2,3\n", {}, "t.csv, line 1: two columns are called 'a'"),
        (GOOD.replace(",p", ",q"), {}, "t.csv: one class only, 'q'"),
        (GOOD, {"folds": 9}, "t.csv, line 2: class 'q' has 8 rows that are no test rows; folds is 9"),
        (GOOD.replace("3,v,q", "3,v,r"), {}, "t.csv, line 5: class 'r' has 1 row; at least 3"),
        (GOOD.replace("3,v,q", "3,,q"), {"group": "b"}, "t.csv, line 5: 'b' is empty; each row needs a group"),
        (GOOD.replace("\n3,v,q", "\n,v,q"), {"time": "a"}, "t.csv, line 5: 'a' is empty; each row needs a time"),
        (GOOD.replace("\n3,v,q", "\nthree,v,q"), {"time": "a"}, "t.csv, line 5: 'a' is 'three'; a time is a number"),
    ],
)  # fmt: skip
def test_a_fault_is_named_with_its_line(
    tmp_path: Path, text: str | bytes, options: dict[str, Any], message: str
) -> None:
    (tmp_path / "t.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(DataError) as refused:
        TableFile(str(tmp_path / "t.csv"), **{"target": "y", **options}).setup()
    assert message in str(refused.value)


def test_a_test_file_must_fit(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(GOOD)
    for text, message in (
        ("a,b\n1,u\n", "more.csv: no column 'y'"),
        ("a,b,y\n1,u,p\n\n2,u,r\n", "more.csv, line 4: the test part has class 'r', which no training row has"),
        ("a,b,y\n1,u,p\nx,u,p\n", "more.csv, line 3: 'a' is 'x'"),
    ):
        (tmp_path / "more.csv").write_text(text)
        with pytest.raises(DataError) as refused:
            TableFile(str(tmp_path / "t.csv"), "y", test_path=str(tmp_path / "more.csv")).setup()
        assert message in str(refused.value)


def test_other_files_are_refused(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [[1], [2]], "b": [1.0, np.inf], "t": pd.to_datetime(["2026-01-01", "2026-01-02"])})
    frame.to_parquet(tmp_path / "t.parquet")
    table = read_table(str(tmp_path / "t.parquet"))
    for column, message in (("a", "column 'a' holds list"), ("b", "t.parquet, row 2: 'b' is inf"), ("t", "timestamp")):
        with pytest.raises(DataError, match=message):
            table.numbers(column)
    (tmp_path / "no.parquet").write_bytes(b"a,b\n1,2\n")
    (tmp_path / "t.xlsx").write_bytes(b"")
    for name, message in (
        ("no.parquet", "is no Parquet file"),
        ("t.xlsx", "'.xlsx' is no kind of table; it must be one of .csv, .tsv"),
        ("none.csv", "none.csv: cannot be read .No such file"),
    ):
        with pytest.raises(DataError, match=message):
            read_table(str(tmp_path / name))


def test_times_of_any_kind_sort(tmp_path: Path) -> None:
    days = ["2026-01-02", "2025-12-31 23:59:59", "2026-01-01"]
    zoned = ["2026-01-02T00:00:00Z", "2026-01-01T00:30:00+02:00", "2026-01-01T00:00:00Z"]
    (tmp_path / "t.csv").write_text(
        "d,z,n\n" + "".join(f"{d},{z},{n}\n" for d, z, n in zip(days, zoned, (10, 9, 9.5), strict=True))
    )
    pd.DataFrame({"d": pd.to_datetime(days, format="ISO8601"), "n": [10, 9, 9.5]}).to_parquet(tmp_path / "t.parquet")
    csv, parquet = read_table(str(tmp_path / "t.csv")), read_table(str(tmp_path / "t.parquet"))
    for moments in (*map(csv.moments, "dzn"), *map(parquet.moments, "dn")):
        assert np.argsort(moments).tolist() == [1, 2, 0]


def test_an_encoding_and_a_delimiter_are_followed(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes("a;b\ncafé;1\n".encode("cp1252"))
    table = read_table(str(tmp_path / "t.csv"), csv=CSVFormat(";", "cp1252"))
    assert table.texts("a") == ["café"]
    (tmp_path / "bom.csv").write_bytes(b"\xef\xbb\xbfa,b\n1,2\n")
    assert read_table(str(tmp_path / "bom.csv")).numbers("a").tolist() == [1]
