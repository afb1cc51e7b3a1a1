"""What is done beside a sweep goes on, whatever a round of it raises."""

from __future__ import annotations

import threading

import pytest

from service.tuning.rounds import rounds


def test_no_round_is_the_last_one_because_it_went_wrong(caplog: pytest.LogCaptureFixture) -> None:
    over, done = threading.Event(), list[int]()
    troubles = {1: OSError("full"), 2: KeyError("a"), 3: KeyError("a"), 5: ValueError("b"), 7: ValueError("b")}

    def work() -> None:
        done.append(len(done) + 1)
        if len(done) == 8:
            over.set()
        elif len(done) in troubles:
            raise troubles[len(done)]

    rounds(work, over, 0.0)
    assert done == list(range(1, 9))
    assert len(caplog.records) == 3
