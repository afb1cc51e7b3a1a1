"""A log that grows is read whole, wherever its writer paused."""

from __future__ import annotations

from pathlib import Path

from cluster.backend import LogChunk
from service.api.sweep_views import Chunk, Views
from service.records import SweepRecord
from service.sweeps.folders import sweeps_folder
from service.views.log import grown
from tests.pretend_cluster import PretendCluster


def test_what_is_written_meanwhile_is_read_and_no_character_is_cut(tmp_path: Path) -> None:
    path, looks = tmp_path / "driver.log", iter((b"begun \xe2", b"\x82", b"\xac done", None))
    written = b""

    def is_over() -> bool:
        nonlocal written
        more = next(looks)
        written += more or b""
        path.write_bytes(written)
        return more is None

    assert "".join(grown(path, is_over)) == "begun € done"


def test_a_log_that_never_was(tmp_path: Path) -> None:
    assert list(grown(tmp_path / "none.log", lambda: True)) == []


RECORD = SweepRecord("digits-1", "default", "ada", "digits", {}, attempt=1)


class Printing(PretendCluster):
    """A cluster whose one job has printed something."""

    def logs(self, job_id: str, *, offset: int = 0) -> LogChunk:
        assert job_id == RECORD.id
        printed = "an early word\nno module named net é\n".encode()
        return LogChunk(printed[offset:].decode(), len(printed))


def look(views: Views, offset: int, *, is_over: bool, limit: int = 1000) -> Chunk | None:
    return views.log(RECORD, None, offset=offset, limit=limit, is_over=is_over)


def test_what_ray_has_is_shown_once_the_sweep_is_over_and_counts_for_no_offset(tmp_path: Path) -> None:
    views = Views(tmp_path, Printing(tmp_path))
    assert look(views, 0, is_over=False) is None
    assert look(views, 0, is_over=True) == Chunk("an early word\nno module named net é\n", 0, reaches_end=True)
    assert look(views, -9, is_over=True, limit=2) == Chunk("\n", 0, reaches_end=True)


def test_a_character_that_is_not_whole_yet_waits_for_its_rest(tmp_path: Path) -> None:
    views = Views(tmp_path)
    log = sweeps_folder(tmp_path) / RECORD.id / "logs" / "driver.log"
    log.parent.mkdir(parents=True)
    log.write_bytes("loss é".encode()[:-1])
    assert look(views, 0, is_over=False) == Chunk("loss ", 5, reaches_end=True)
    assert look(views, 0, is_over=True) == Chunk("loss \ufffd", 6, reaches_end=True)
    log.write_bytes("loss é".encode())
    assert look(views, 5, is_over=False) == Chunk("é", 7, reaches_end=True)
