"""Work beside the controller's passes: what cannot be done is tried with every pass, and told once."""

from __future__ import annotations

import logging
import threading

import pytest

from cluster.backend import PlaceLostError
from service.control.hands import Hands
from tests.controlled import OwnHands


def test_what_is_tried_again_and_again_is_told_when_it_changes(caplog: pytest.LogCaptureFixture) -> None:
    answers = [PlaceLostError("away"), PlaceLostError("away"), ValueError("odd"), None, ValueError("odd")]
    hands = OwnHands(1)

    def work() -> None:
        answer = answers.pop(0)
        if answer is not None:
            raise answer

    with caplog.at_level(logging.WARNING):
        for _ in range(len(answers)):
            hands.start("a-sweep", work)
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == [
        "away", "ValueError('odd')", "ValueError('odd')",
    ]  # fmt: skip
    assert hands.close()


def test_work_that_is_over_is_not_remembered_and_what_goes_on_is_begun_once() -> None:
    hands, go_on, begun = Hands(2), threading.Event(), list[int]()

    def slow() -> None:
        begun.append(1)
        go_on.wait(60)

    hands.start("slow", slow)
    for number in range(200):
        hands.start(f"sweep {number}", lambda: None)
    hands.start("slow", slow)
    assert hands.is_busy("slow")
    go_on.set()
    assert hands.close(60)
    for pool in hands._pools.values():
        pool.shutdown()
    assert (begun, hands._busy) == ([1], {})
