"""What a person, a log file and a program see of a running sweep."""

from __future__ import annotations

import json
from typing import Any

import pytest
from rich.console import Console

from service.views.progress import JsonView, PlainView, duration, line, number, picture, short_names


def progress(**changes: Any) -> dict[str, Any]:  # noqa: ANN401  # any part of the object
    trials = {
        "total": 20,
        "pending": 1,
        "running": 2,
        "paused": 0,
        "completed": 3,
        "stopped": 4,
        "diverged": 1,
        "failed": 0,
    }
    return {
        "sweep_id": "digits-20261122-abcdef",
        "state": "running",
        "reason": "",
        "elapsed_s": 75.0,
        "eta_s": 130.0,
        "metric": {"name": "val_acc", "goal": "maximize"},
        "trials": trials,
        "epochs": 44,
        "best": {
            "trial": 5,
            "epoch": 9,
            "value": 0.98123,
            "params": {"optimizer.init_args.lr": 0.0123456, "model.width": 16},
        },
        "rungs": [{"epoch": 1, "reached": 11}, {"epoch": 3, "reached": 4}],
        "running": [
            {"trial": 9, "epoch": 2, "value": None, "params": {"optimizer.init_args.lr": 0.5, "model.width": 8}}
        ],
        "tracking": {"delivered": None, "lag": 7},
        "warnings": ["only 2 trials fit"],
        **changes,
    }


def drawn(content: dict[str, Any]) -> str:
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115  # a sink
    console.print(picture(content))
    console.file.close()
    return console.export_text()


def test_the_picture_says_all_that_matters() -> None:
    text = drawn(progress())
    for part in (
        "digits-20261122-abcdef", "running", "8/20 trials", "44 epochs", "about 2 min 10 s left", "val_acc 0.9812",
        "trial 5", "lr=0.01235 width=16", "epoch 1: 11", "epoch 3: 4", "MLflow is 7 records behind",
        "only 2 trials fit",
    ):  # fmt: skip
        assert part in text


def test_the_picture_of_a_sweep_that_just_began_can_be_drawn() -> None:
    text = drawn(
        progress(best=None, running=[], rungs=[], eta_s=None, tracking={}, warnings=[], trials={"total": None})
    )
    assert "0/? trials" in text


def test_many_running_trials_are_cut_short() -> None:
    one = progress()["running"][0]
    text = drawn(progress(running=[{**one, "trial": i} for i in range(40)]))
    assert "28 more" in text
    assert len(text.splitlines()) < 24


def test_a_line_is_one_line() -> None:
    expected = "running · 8/20 trials · 2 running · best val_acc 0.9812 (trial 5) · 1 min 15 s · 2 min 10 s left"
    assert line(progress()) == expected


def test_plain_lines_come_only_with_news(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("service.views.progress.time.monotonic", lambda: now[0])
    shown = PlainView()
    for at, state in ((100.0, "running"), (105.0, "running"), (105.1, "paused"), (105.2, "paused"), (107.0, "paused")):
        now[0] = at
        shown.update(progress(state=state))
    assert [text.split(" ")[0] for text in capsys.readouterr().out.splitlines()] == ["running", "paused"]


def test_json_objects_come_only_with_changes_and_notes_stay_out(capsys: pytest.CaptureFixture[str]) -> None:
    shown = JsonView()
    shown.update(progress())
    shown.update(progress())
    shown.update(progress(epochs=45))
    shown.note("beside")
    captured = capsys.readouterr()
    assert [json.loads(text)["epochs"] for text in captured.out.splitlines()] == [44, 45]
    assert captured.err == "beside\n"


def test_short_names_are_as_short_as_they_can_be() -> None:
    names = ["model.init_args.lr", "optimizer.init_args.lr", "model.init_args.width", "lr"]
    assert short_names(names) == {
        "model.init_args.lr": "model.init_args.lr",
        "optimizer.init_args.lr": "optimizer.init_args.lr",
        "model.init_args.width": "width",
        "lr": "lr",
    }


@pytest.mark.parametrize(
    ("seconds", "text"), [(None, ""), (0.4, "0 s"), (59.6, "1 min 00 s"), (125, "2 min 05 s"), (7620, "2 h 07 min")]
)
def test_duration(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.000123456, "0.0001235"), (float("nan"), "nan"), (16, "16"), ("sgd", "sgd")]
)
def test_number(value: object, text: str) -> None:
    assert number(value) == text
