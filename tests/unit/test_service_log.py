"""The service's log: whole lines of JSON, and no secret that passes through."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from service.server.log import JsonLines, without_secrets

CANARY = "c4n4ryc4n4ry"


@pytest.mark.parametrize(
    "text",
    [
        f"user has ty_ab12cd_{CANARY}",
        f"Authorization: Bearer {CANARY}",
        f"postgresql://tuneyard:{CANARY}@db/tuneyard",
        f"https://me:{CANARY}@mlflow.example/x",
        f"GET /x?token={CANARY}&y=1",
        f"password={CANARY}",
    ],
)
def test_what_looks_like_a_secret_is_blotted_out(text: str) -> None:
    assert CANARY not in without_secrets(text)
    assert "***" in without_secrets(text)


def test_lines_stay_lines_and_errors_come_without_secrets() -> None:
    try:
        raise ValueError(f"postgresql://u:{CANARY}@db refused")  # noqa: EM102, TRY003, TRY301  # as libraries word it
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "two\n%s", ("lines",), sys.exc_info())
    line = JsonLines().format(record)
    entry = json.loads(line)
    assert "\n" not in line
    assert entry["message"] == "two\nlines"
    assert "refused" in entry["error"]
    assert CANARY not in line
