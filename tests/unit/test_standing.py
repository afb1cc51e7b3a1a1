"""Whoever runs the service can see that its controller does nothing, and whose trouble that is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.api.auth import AuthSettings
from service.control.standing import MOST_SILENCE_S, Standing
from service.server.serve import _parts, _service
from service.server.settings import settings_of
from service.store import Store
from service.store.leases import LeaseLostError
from tests.controlled import World
from tests.serving import serving

WELL = {"controller": "", "cluster": ""}


@pytest.fixture
def world(home: Path) -> Iterator[World]:
    found = World(home)
    yield found
    found.store.close()


def test_a_cluster_that_is_away_is_seen(world: World) -> None:
    standing = world.controller.standing
    world.controller._try()
    assert standing.checks() == WELL
    world.cluster.is_away = True
    world.controller._try()
    assert standing.checks()["cluster"]
    assert standing.figures()["cluster_reachable"] == 0.0
    world.cluster.is_away = False
    world.controller._try()
    assert (standing.checks(), standing.figures()["cluster_reachable"]) == (WELL, 1.0)


def test_a_pass_that_breaks_off_is_seen_and_another_replicas_turn_is_no_trouble(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    standing = world.controller.standing
    for error, is_trouble in ((RuntimeError("secret"), True), (LeaseLostError("two has it"), False)):

        def fails(_: object, found: Exception = error) -> None:
            raise found

        with monkeypatch.context() as patch:
            patch.setattr(world.store, "unfinished", fails)
            world.controller._try()
        assert bool(standing.checks()["controller"]) == is_trouble
        assert "secret" not in standing.checks()["controller"]
        world.controller._try()
        assert standing.checks() == WELL


def test_one_who_follows_has_no_trouble(world: World) -> None:
    world.cluster.is_away = True
    world.controller._try()
    other = world.another("two")
    other._try()
    assert (other.standing.checks(), other.standing.figures()["controller_leads"]) == (WELL, 0.0)


def test_a_controller_that_hangs_is_seen() -> None:
    now = [0.0]
    standing = Standing(lambda: now[0])
    now[0] = MOST_SILENCE_S + 1
    assert "301 s" in standing.checks()["controller"]
    assert standing.figures() == {"controller_leads": 0.0, "controller_pass_age_seconds": 301.0}
    standing.passed()
    assert standing.checks() == WELL


def test_the_service_tells_of_its_controller(tmp_path: Path, world: World) -> None:
    world.controller._try()
    with serving(tmp_path, figures=world.controller.standing.figures) as served:
        text = served.client.get("/metrics").text
    assert "tuneyard_controller_leads 1.0" in text
    assert "tuneyard_cluster_reachable 1.0" in text


def test_a_service_whose_cluster_is_away_is_not_ready(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, {"cluster": "http://127.0.0.1:9"}, {})
    store = Store.open(settings.database_url)
    parts = _parts(settings, store)
    service = _service(settings, AuthSettings("none"), parts)
    assert service.checks() == WELL
    parts.controller._try()
    assert service.checks()["cluster"]
    assert service.figures()["cluster_reachable"] == 0.0
    service.close()
    store.close()
