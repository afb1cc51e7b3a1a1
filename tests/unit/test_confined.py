"""A sweep's folder is written by its job: whoever reads it for others is led nowhere else by it."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.tuning.confined import ConfinedStorage, NotOursError, open_in, read_in
from tests.serving import Served, serving, write_sweep

SECRET = "canary-of-another-file"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    found = tmp_path / "outside"
    found.mkdir()
    (found / "secret").write_text(SECRET)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "sweep"
    (found / "logs").mkdir(parents=True)
    (found / "logs" / "driver.log").write_text("words")
    return found


def test_what_lies_in_the_folder_is_read(folder: Path) -> None:
    assert read_in(folder, "logs/driver.log") == b"words" == ConfinedStorage(folder).read("logs/driver.log")
    assert read_in(folder, "logs/driver.log", 5) == b"words"
    with open_in(folder, "logs/driver.log") as stream:
        assert stream.seek(0, 2) == 5
    for missing in ("nothing", "nothing/at/all", "logs/nothing"):
        with pytest.raises(FileNotFoundError):
            read_in(folder, missing)


def pipe(path: Path, _: Path) -> None:
    os.mkfifo(path)


def plug(path: Path, _: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(os.path.relpath(path))


HARMS: dict[str, Callable[[Path, Path], object]] = {
    "link": lambda path, outside: path.symlink_to(outside / "secret"),
    "device": lambda path, _: path.symlink_to("/dev/zero"),
    "folder": lambda path, _: path.mkdir(),
    "pipe": pipe,
    "socket": plug,
    "too large": lambda path, _: path.write_bytes(b"x" * 11),
}


@pytest.mark.parametrize("harm", HARMS)
def test_whatever_else_a_name_stands_for_is_refused(folder: Path, outside: Path, harm: str) -> None:
    HARMS[harm](folder / "logs" / "x", outside)
    with pytest.raises(NotOursError) as refused:
        read_in(folder, "logs/x", 10)
    assert str(outside) not in str(refused.value)


@pytest.mark.parametrize(
    "name", ["../outside/secret", "/etc/hostname", "", ".", "logs/../../outside/secret", "linked/secret"]
)
def test_no_name_leads_out(folder: Path, outside: Path, name: str) -> None:
    (folder / "linked").symlink_to(outside)
    with pytest.raises(NotOursError):
        read_in(folder, name)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    with serving(tmp_path / "home") as found:
        yield found


def put(path: Path, target: Path) -> None:
    path.unlink(missing_ok=True)
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(target)


@pytest.mark.parametrize("is_over", [True, False])
def test_no_answer_holds_what_a_link_leads_to(served: Served, outside: Path, is_over: bool) -> None:  # noqa: FBT001  # a case
    record = served.submit()
    folder = write_sweep(served.service.home, record, [0.5, 0.2], is_over=is_over)
    if is_over:
        served.ask("submitter", "POST", f"/sweeps/{record['id']}/cancel")
    (outside / "word").write_text(json.dumps({"reason": SECRET}))
    (outside / "config.yaml").write_text(f"model: {{class_path: {SECRET}}}")
    put(folder / "progress.json", outside / "word")
    for name in ("logs/driver.log", "logs/trial-0.log", "report/report.json", "report/report.html", "report/best.yaml"):
        put(folder / name, outside / "secret")
    for trial in range(2):
        put(folder / "configs" / f"trial-{trial}.yaml", outside / "config.yaml")
    for path in ("", "/trials", "/logs", "/trials/0/logs", "/report", "/report.html", "/best", "/events"):
        answer = served.ask("viewer", "GET", f"/sweeps/{record['id']}{path}")
        assert SECRET not in answer.text, path
        assert answer.status_code in (200, 503), answer.text
        assert str(outside) not in answer.text


def test_nothing_is_written_through_a_link(served: Served, outside: Path) -> None:
    record = served.submit()
    folder = write_sweep(served.service.home, record, [0.5])
    (folder / "report").symlink_to(outside)
    assert served.ask("viewer", "GET", f"/sweeps/{record['id']}/report").json()["best"]["trial"] == 0
    assert [path.name for path in outside.iterdir()] == ["secret"]


@pytest.mark.parametrize(
    "word", ["[" * 100_000, '{"a":' * 900 + "1" + "}" * 900, '{"tracking": [1], "best": "x"}', "7"]
)
def test_nonsense_that_a_driver_says_is_no_error_of_the_service(served: Served, word: str) -> None:
    record = served.submit()
    (write_sweep(served.service.home, record, [0.5]) / "progress.json").write_text(word)
    for path in ("", "/trials", "/best"):
        assert served.ask("viewer", "GET", f"/sweeps/{record['id']}{path}").status_code == 200, path
