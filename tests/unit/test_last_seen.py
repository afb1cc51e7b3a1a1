"""A cluster that hangs is asked once, and those who want to know are told without it."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.backend import Capacity, PlaceLostError
from service.api import last_seen
from service.api.last_seen import LastSeen, Unseen
from tests.pretend_cluster import PretendCluster
from tests.serving import serving
from tests.waiting import until


class Hanging(PretendCluster):
    """A cluster that answers when it is let."""

    def __init__(self, home: Path) -> None:
        super().__init__(home)
        self.asked, self.go_on = 0, threading.Event()

    def capacity(self) -> Capacity:
        self.asked += 1
        self.go_on.wait(120)
        return super().capacity()


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    monkeypatch.setattr(last_seen, "PATIENCE_S", 0.05)
    found = Hanging(tmp_path)
    yield found
    found.go_on.set()


def test_requests_do_not_wait_for_a_cluster_that_hangs(
    tmp_path: Path, cluster: Hanging, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(last_seen, "FRESH_S", math.inf)  # else it would be asked again after a while
    with serving(tmp_path, backend=cluster) as served:
        served.submit()
        for _ in range(3):
            found = served.ask("viewer", "GET", "/cluster").json()
            assert (found["is_reachable"], found["message"]) == (False, "the cluster takes long to answer")
            assert len(served.ask("viewer", "GET", "/queue").json()["items"]) == 1
        until(lambda: cluster.asked > 0)
        assert cluster.asked == 1
        cluster.go_on.set()
        assert served.service.capacity is not None
        served.service.capacity._told.wait(120)
        assert served.ask("viewer", "GET", "/cluster").json()["is_reachable"]
        assert cluster.asked == 1


def test_what_is_wrong_is_said_until_it_is_right_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def away() -> Capacity:
        raise PlaceLostError("Ray does not answer")  # noqa: EM101, TRY003  # as a backend says it

    def nonsense() -> Capacity:
        raise KeyError("nodes")  # noqa: EM101  # as above

    monkeypatch.setattr(last_seen, "FRESH_S", 0.0)
    monkeypatch.setattr(last_seen, "PATIENCE_S", 120.0)
    answers: Iterator[Callable[[], Capacity]] = iter([away, nonsense, lambda: Capacity(4.0, 0.0, 1)])

    def ask() -> Capacity:
        return next(answers)()

    seen = LastSeen(ask)
    first, second = seen(), seen()
    assert isinstance(first, Unseen)
    assert first.detail == "Ray does not answer"
    assert "not understood" in str(second)
    assert seen() == Capacity(4.0, 0.0, 1)


class Lost(PretendCluster):
    """A cluster that is away."""

    def capacity(self) -> Capacity:
        raise PlaceLostError("the Ray at http://ray-head.internal:8265 does not answer")  # noqa: EM101, TRY003  # as above


def test_where_the_cluster_is_shows_to_operators_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(last_seen, "PATIENCE_S", 120.0)
    with serving(tmp_path, backend=Lost(tmp_path)) as served:
        served.submit()
        waits = {who: served.ask(who, "GET", "/queue").text for who in ("viewer", "operator")}
        messages = {
            who: served.ask(who, "GET", "/cluster").json()["message"] for who in ("viewer", "admin", "operator")
        }
    assert "ray-head.internal" in messages["operator"]
    assert {who: "ray-head.internal" in text for who, text in waits.items()} == {"viewer": False, "operator": True}
    assert messages["viewer"] == messages["admin"] == "it does not answer just now; an operator sees why"
