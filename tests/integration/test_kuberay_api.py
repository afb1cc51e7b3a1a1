"""The Kubernetes backend and an API server that is busy, forgetful, strict, in others' hands, or gone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cluster import _kube_watch
from cluster._kube_api import RAY_JOB, Api
from cluster._kube_manifest import SELECTOR
from cluster.backend import JobError, JobState, PlaceLostError
from tests.kube.jobs import SLEEP, python, rayjob, server_of, state, template
from tests.kube.place import KubePlace, a_place
from tests.kube.schemas import needs_crds
from tests.kube.server import SERVICE
from tests.waiting import until


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[KubePlace]:
    with a_place(tmp_path, monkeypatch) as found:
        yield found


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_busy_api_server_is_asked_again_when_it_says_so(place: KubePlace, code: int) -> None:
    backend = place.connect()
    backend.capacity()
    server_of(place).trouble("POST", code, Retry_After="1")
    began = time.monotonic()
    backend.submit(python("pass"))
    assert time.monotonic() - began >= 1


def test_an_api_server_that_stays_busy_is_a_lost_place(place: KubePlace) -> None:
    place.operator.is_away = True
    backend = place.connect()
    backend._api._patience_s = 0.5
    server_of(place).trouble("POST", 429, times=20)
    with pytest.raises(PlaceLostError, match="429"):
        backend.submit(python("pass"))
    server_of(place).troubles.clear()
    server_of(place).trouble("POST", 403)
    with pytest.raises(PlaceLostError, match="does not allow it"):
        backend.submit(python("pass"))


@needs_crds
def test_a_field_that_kubernetes_does_not_know_is_refused_and_not_pruned(place: KubePlace, tmp_path: Path) -> None:
    backend = place.connect(template=template(tmp_path, shutdownAfterJobFinish=True))
    with pytest.raises(JobError, match=r"unknown field .*spec.shutdownAfterJobFinish"):
        backend.submit(python("pass"))
    backend = place.connect(template=template(tmp_path, entrypointResources=7))
    with pytest.raises(JobError, match=r"spec\.entrypointResources: must be of type string"):
        backend.submit(python("pass"))


def test_a_watch_that_is_too_old_begins_again(place: KubePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kube_watch, "_PAUSE_S", 0.05)
    monkeypatch.setattr("tests.kube.server.BOOKMARK_S", 600.0)  # none that would make the watch young again
    backend, server = place.connect(), server_of(place)
    backend.submit(python(SLEEP))
    until(lambda: state(backend) is JobState.RUNNING)
    asked = len(server.asked)
    server.cut += 1  # every connection ends, and what they would go on from is forgotten
    server.objects.compact()
    place.operator.lose_head("a-job")
    until(lambda: state(backend) is JobState.FAILED)
    assert [a for a in server.asked[asked:] if a.who == SERVICE and a.path.endswith("rayjobs") and "limit" in a.query]


def test_an_api_server_that_forgets_everything_at_once_is_not_asked_all_the_time(
    place: KubePlace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_kube_watch, "LOST_S", 0.3)
    backend, server = place.connect(), server_of(place)
    place.operator.close()
    backend.capacity()
    server.trouble("GET", 410, times=1000)
    server.cut += 1
    asked = len(server.asked)
    time.sleep(2)
    assert len(server.asked) - asked < 10
    with pytest.raises(PlaceLostError, match="410"):
        backend.statuses(["a-job"])
    server.troubles.clear()
    until(lambda: backend.statuses(["a-job"]) == {} if not backend._watched._lost_at else False)


def test_a_late_answer_brings_no_job_back_that_was_deleted_by_hand(place: KubePlace) -> None:
    backend, server = place.connect(), server_of(place)
    backend.submit(python(SLEEP))
    until(lambda: state(backend) is JobState.RUNNING)
    late = rayjob(place)
    server.objects.delete("rayjobs", "test", "a-job", {})
    until(lambda: not backend.statuses(["a-job"]))
    backend._watched.take(late)
    assert backend.statuses(["a-job"]) == {}
    backend.submit(python(SLEEP))
    assert list(backend.statuses(["a-job"])) == ["a-job"]


def test_bookmarks_keep_a_watch_young(place: KubePlace) -> None:
    backend, server = place.connect(), server_of(place)
    backend.submit(python("pass"))
    until(lambda: state(backend) is JobState.SUCCEEDED)
    for _ in range(5):  # changes to what nobody watches
        server.objects.create("pods", "test", {"metadata": {"name": f"pod-{time.monotonic_ns()}"}}, is_strict=False)
    until(lambda: backend._watched._version == str(server.objects.version))


def test_an_api_server_that_is_gone_is_no_lost_job(place: KubePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_kube_watch, "LOST_S", 0.2)
    backend = place.connect()
    backend._api._patience_s = 0.3
    backend.submit(python(SLEEP))
    server = server_of(place)
    place.operator.close()
    server.is_ending.set()
    server.shutdown()
    server.server_close()

    def is_lost() -> bool:
        try:
            backend.statuses(["a-job"])
        except PlaceLostError:
            return True
        return False

    until(is_lost)
    with pytest.raises(PlaceLostError):
        backend.capacity()


def test_a_place_that_was_never_reached_is_told_at_once_to_whoever_asks_next(place: KubePlace) -> None:
    backend, server = place.connect(), server_of(place)
    place.operator.is_away = True
    backend._api._patience_s = 0.2
    server.trouble("GET", 403, times=3)
    with pytest.raises(PlaceLostError, match="403"):
        backend.capacity()
    server.troubles.clear()
    asked = len(server.asked)
    with pytest.raises(PlaceLostError, match="403"):
        backend.statuses(["a-job"])
    assert len([a for a in server.asked[asked:] if "managed-by" in a.query.get("labelSelector", "")]) == 0


def test_what_others_change_meanwhile_is_changed_again(place: KubePlace) -> None:
    backend = place.connect()
    backend.submit(python(SLEEP))
    until(lambda: state(backend) is JobState.RUNNING)
    head = next(iter(place.operator.dashboards.heads.values()))
    place.operator.is_away = True  # what follows is for the backend alone
    server_of(place).trouble("PATCH", 409, times=3)
    with ThreadPoolExecutor(1) as pool:
        stopping = pool.submit(backend.stop, "a-job")
        until(lambda: not server_of(place).troubles)
        place.operator.is_away = False
        assert stopping.result().state is JobState.STOPPED
    assert head.status == "STOPPED"


def test_one_of_many_pages_is_no_end(place: KubePlace, monkeypatch: pytest.MonkeyPatch) -> None:
    from cluster import _kube_api

    place.operator.is_away = True
    backend = place.connect()
    for number in range(5):
        backend.submit(python("pass", job_id=f"job-{number}"))
    monkeypatch.setattr(_kube_api, "PAGE", 2)
    found, version = Api("test").list(RAY_JOB, SELECTOR)
    assert len(found) == 5
    assert int(version) <= server_of(place).objects.version
    assert len(place.connect().statuses([f"job-{number}" for number in range(5)])) == 5
