"""The YAML reader: what it takes, where it says things stand, and that no file can hurt it."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonargparse import _loaders_dumpers

from service.errors import Fault, SpecError
from service.spec.document import FLOAT, MAX_BYTES, Node, parse, read, resolve, shorten

lightning_loader: Callable[[], Any] = _loaders_dumpers.get_yaml_default_loader  # what LightningCLI reads with


def plain(text: str | bytes) -> Any:  # noqa: ANN401  # any JSON value
    return parse(text, file="f.yaml").plain()


def faults(text: str | bytes) -> tuple[Fault, ...]:
    with pytest.raises(SpecError) as caught:
        parse(text, file="f.yaml")
    return caught.value.faults


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4), ("1E5", 1e5), ("-2.5e+3", -2500.0), (".5", 0.5), ("+.5e1", 5.0), ("1.", 1.0), ("1_000", 1000),
        ("0", 0), ("-7", -7), ("0x1F", 31), ("0b11", 3), ("0o17", 15), (".inf", math.inf), ("-.INF", -math.inf),
        ("yes", True), ("Off", False), ("TRUE", True), ("~", None), ("null", None), ("e5", "e5"), ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"), ("-", "-"), (".", "."), ("1.2.3", "1.2.3"), ("y", "y"), ("--", "--"),
    ],
)  # fmt: skip
def test_plain_scalars_mean_what_lightning_cli_reads(text: str, value: object) -> None:
    got = resolve(text)
    assert got == value
    assert type(got) is type(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_is_read_as_itself(number: float) -> None:
    assert resolve(repr(number)) == number


@given(st.text(alphabet="+-0123456789._eExXinfaN", min_size=1, max_size=12))
def test_numbers_are_those_of_lightning_cli(text: str) -> None:
    try:
        ours = resolve(text)
    except ValueError:
        return
    theirs = yaml.load(text, Loader=lightning_loader()) if "\n" not in text else None  # noqa: S506  # jsonargparse's safe loader
    if isinstance(ours, float) and isinstance(theirs, float | int):
        assert math.isnan(ours) or ours == theirs
    elif isinstance(ours, int):
        assert ours == theirs


@pytest.mark.parametrize("text", ["007", "1e999", "-0_1", "9" * 101])
def test_numbers_that_readers_disagree_on_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"number"):
        resolve(text)


@pytest.mark.parametrize("quoted", ["'1e-4'", '"1e-4"', "|-\n  1e-4"])
def test_quoted_numbers_stay_text(quoted: str) -> None:
    assert plain(f"a: {quoted}") == {"a": "1e-4"}


def test_nodes_know_file_line_and_path() -> None:
    root = parse("a:\n  b:\n    - 1\n    - {c: 2}\n", file="f.yaml")
    node, rest = root.locate(("a", "b", 1, "c", "d"))
    assert (node.place.file, node.place.line, node.place.steps, rest) == ("f.yaml", 4, ("a", "b", 1, "c"), ("d",))


@pytest.mark.parametrize(
    "content", [b"\xef\xbb\xbfa: 1\n", b"a: 1\r\n", "\ufeffa: 1", b"--- \na: 1\n...\n", b"%YAML 1.2\n---\na: 1"]
)
def test_byte_order_marks_and_windows_newlines_are_fine(content: bytes | str) -> None:
    assert plain(content) == {"a": 1}


@pytest.mark.parametrize(
    ("content", "message", "line"),
    [
        (b"", "is empty", None),
        (b"# only a comment\n", "is empty", None),
        (b"a: \xff\n", "is not UTF-8 text", 1),
        ("a: 1\n".encode("utf-16"), "is not UTF-8 text", 1),
        (b"a:\n\tb: 1\n", "is not YAML", 2),
        (b"a: 1\n\x00", "is not YAML", 2),
        (b"a: 1\n---\nb: 1\n", "more than one document", 2),
        (b"a: &x 1\nb: *x\n", "anchors and aliases", 1),
        (b"a: !!float 1\n", "tags", 1),
        (b"a: 1\nb: 2\na: 3\n", "stands twice", 3),
        (b"1: a\n", "must be text", 1),
        (b"[1]: a\n", "must be text", 1),
        (b'a: "\\0"\n', "NUL", 1),
        (b"<<: {a: 1}\n", "merge keys", 1),
        (b"a: [1\n", "is not YAML", 2),
        (b"a: " + b"x" * 30_000, "too long", 1),
        (b"a: '" + b"x" * MAX_BYTES + b"'", "too large", None),
        (b"[" * 40, "nested too deeply", 1),
        (b"[" + b"1," * 30_000 + b"]", "too many values", 1),
    ],
)
def test_what_no_sweep_file_needs_is_refused(content: bytes, message: str, line: int | None) -> None:
    fault = faults(content)[0]
    assert message in fault.message
    assert (fault.file, fault.line) == ("f.yaml", line)


def test_all_faults_of_a_document_come_at_once() -> None:
    assert [fault.line for fault in faults("a: &x 1\nb: !t 2\na: 3\nc: 007\n")] == [1, 2, 3, 4]


def test_a_thousand_faults_are_cut_off() -> None:
    assert len(faults("\n".join(f"a{i}: &a 1" for i in range(1000)))) == 100


def test_a_file_that_is_none_is_refused_without_waiting(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for path, message in ((pipe, "regular file"), (tmp_path, "regular file"), (tmp_path / "no", "No such file")):
        with pytest.raises(SpecError, match=message):
            read(path)


def test_a_large_file_is_not_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "large.yaml"
    with path.open("wb") as stream:
        stream.truncate(2**40)  # sparse: reading it all would not fit
    with pytest.raises(SpecError, match="at most 256 KiB"):
        read(path)


def test_plain_data_makes_the_same_tree_as_its_text() -> None:
    data = {"a": [1, {"b": None}], "c": "x"}
    assert Node.of(data, parse("{}", file="f").place).plain() == data


@given(st.text(max_size=300))
def test_shown_texts_are_short_and_on_one_line(text: str) -> None:
    cut = shorten(text)
    assert len(cut) <= 80
    assert cut.isprintable()


@given(st.binary(max_size=400))
def test_any_bytes_are_a_tree_or_faults(content: bytes) -> None:
    try:
        parse(content, file="f.yaml").plain()
    except SpecError as error:
        assert error.faults  # noqa: PT017  # both ways are right


@given(st.from_regex(FLOAT, fullmatch=True))
def test_every_float_form_is_a_number_or_a_fault(text: str) -> None:
    try:
        assert isinstance(resolve(text), float)
    except ValueError as error:
        assert "number" in str(error)  # noqa: PT017  # both ways are right


HEAD = "name: h\nfit: {trainer: {max_epochs: 3}}\nmetric: {name: a, goal: minimize}\nbudget: {max_trials: 3}\n"
ONE = HEAD + "parameters: {a: {min: 1, max: 2}}\n"
MANY = HEAD + "parameters:\n"


def many(count: int, form: str) -> str:
    return MANY + "".join(
        f"  a{i}: {form.format(i=i, before=max(0, i - 1), next=(i + 1) % count)}\n" for i in range(count)
    )


HOSTILE = {
    "brackets": "[" * 250_000,
    "braces": "{" * 250_000,
    "dashes": "- " * 125_000,
    "questions": "? " * 125_000,
    "colons": "a: " * 80_000,
    "flow": "[" + "a," * 120_000 + "]",
    "pairs": "{" + ",".join(f"a{i}: 1" for i in range(25_000)) + "}",
    "aliases": "\n".join(f"a{i}: &a{i} [*a{max(0, i - 1)}, *a{max(0, i - 1)}]" for i in range(5000)),
    "long key": MANY + "  " + "a" * 200_000 + ": 1\n",
    "long word": ONE + "search: {name: " + "grd" * 6_000 + "}\n",
    "unknown keys": ONE + "".join(f"serch{i}: 1\n" for i in range(9_000)),
    "unknown options": ONE + "search:\n" + "".join(f"  {'start_from_default' * 4}{i}: 1\n" for i in range(2_500)),
    "parameters": many(3_000, "{{min: 1, max: 2}}"),
    "conditions": many(200, "{{values: [1, 2], when: {{a{next}: 1}}}}"),
    "grid of chains": many(200, "{{values: [1, 2], when: {{a{before}: [1, 2]}}}}") + "search: {name: grid}\n",
    "grid star": many(60, "{{values: [1, 2]}}") + "  z: {values: [1, 2], when: {"
    + ", ".join(f"a{i}: 1" for i in range(60)) + "}}\nsearch: {name: grid}\n",
    "grid": many(200, "{{min: 1, max: 9007199254740992}}") + "search: {name: grid, points: 1000000000}\n",
    "log grid": many(200, "{{min: 1, max: 900719925474099, distribution: int_log_uniform}}")
    + "search: {name: grid, points: 10000}\n",
    "twice": MANY + "  a: {values: [" + ",".join(["1"] * 19_000) + "]}\n",
    "long number": ONE + "seed: 0." + "9" * 19_000,
    "exponent": ONE + "seed: 1e" + "9" * 90,
    "quotes": '"' * 250_000,
    "documents": "---\n" * 60_000,
    "start points": many(200, "{{min: 0.1, max: 1}}") + "search: {start_points: [" + "{b: 1}," * 90 + "]}\n",
    "constraint": ONE + "constraints: ['" + " " * 19_000 + "<']\n",
    "duration": ONE + "failure: {report_timeout: '" + "1" * 19_000 + "h'}\n",
    "memory": ONE + "resources: {memory: '" + "1" * 19_000 + "'}\n",
    "override-like": ONE + "name: " + "-" * 19_000,
    "epochs": ONE + "scheduler: {name: pbt, max_epochs: 1000000000000000000000}\n",
}  # fmt: skip


MOST_S = 10.0  # each takes well under one; a text that blows up would take minutes, or all memory


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_get_a_clear_error_at_once(name: str, tmp_path: Path) -> None:
    from service.spec.sweep_spec import parse_sweep

    started = time.process_time()
    with pytest.raises(SpecError) as caught:
        parse_sweep(HOSTILE[name], file="h.yaml", root=tmp_path)
    assert time.process_time() - started < MOST_S
    assert len(str(caught.value.faults[0])) < 5_000


def test_all_hostile_texts_fit_in_little_memory(tmp_path: Path) -> None:
    paths = []
    for name, text in HOSTILE.items():
        paths.append(tmp_path / name)
        paths[-1].write_text(text)
    code = """
        import resource, sys
        from pathlib import Path
        resource.setrlimit(resource.RLIMIT_AS, (512 * 2**20, 512 * 2**20))
        resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
        from service.errors import SpecError
        from service.spec.sweep_spec import load_sweep
        for path in sys.argv[1:]:
            try:
                load_sweep(Path(path))
            except SpecError as error:
                print(len(error.faults))
    """
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.split()) == len(HOSTILE)
