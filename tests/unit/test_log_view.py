"""A log that grows is read whole, wherever its writer paused."""

from __future__ import annotations

from pathlib import Path

from service.views.log import grown


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
