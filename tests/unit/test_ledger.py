"""The ledger keeps every acknowledged record, drops a torn tail, and refuses damage before it."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.errors import LedgerDamagedError, LedgerError, SweepRunningError
from service.tuning import ledger as ledger_module
from service.tuning.events import Checkpoint, Record, Reported, SweepPaused, TrialProposed, decode, encode
from service.tuning.ledger import Ledger, LedgerTail, read_ledger
from service.tuning.storage import FolderStorage


class Clock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def opened(folder: Path, clock: Clock | None = None) -> Ledger:
    ledger = Ledger(FolderStorage(folder), clock or Clock())
    ledger.open()
    return ledger


def segments(folder: Path) -> list[Path]:
    return sorted((folder / "ledger").glob("*.jsonl"))


def test_what_is_appended_is_read_back_in_order(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.append([TrialProposed(0, {"lr": 0.1}, "searcher", 0), SweepPaused("a")])
    ledger.append([SweepPaused("b")])
    records = read_ledger(tmp_path)
    assert [r.sequence for r in records] == [0, 1, 2]
    assert records[0].event == TrialProposed(0, {"lr": 0.1}, "searcher", 0)
    assert opened(tmp_path).append([SweepPaused("c")])[0].sequence == 3


def test_numbers_that_json_cannot_hold_survive() -> None:
    report = Reported(3, 1, 2, {"loss": float("inf"), "x": 1.5}, 0.5, Checkpoint("a", 2, 10, "d"), "stop", "r")
    again = decode(encode(Record(0, 1.0, report))).event
    assert again == report


def test_a_clock_that_jumps_back_does_not_reorder_history(tmp_path: Path) -> None:
    clock = Clock()
    ledger = opened(tmp_path, clock)
    ledger.append([SweepPaused("a")])
    clock.now = 10.0
    assert ledger.append([SweepPaused("b")])[0].at == 1000.0


def test_a_torn_tail_is_dropped_and_written_over(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.append([SweepPaused("a")])
    ledger.append([SweepPaused("b")])
    last = segments(tmp_path)[-1]
    last.write_bytes(last.read_bytes()[:-5])
    assert len(read_ledger(tmp_path)) == 1
    again = opened(tmp_path)
    assert again.append([SweepPaused("c")])[0].sequence == 1
    assert [r.event for r in read_ledger(tmp_path)] == [SweepPaused("a"), SweepPaused("c")]


@pytest.mark.parametrize("position", [0, 40, -3])
def test_a_flipped_byte_in_the_middle_is_refused(tmp_path: Path, position: int) -> None:
    ledger = opened(tmp_path)
    for name in "abc":
        ledger.append([SweepPaused(name)])
    middle = segments(tmp_path)[1]
    data = bytearray(middle.read_bytes())
    data[position] ^= 0x01
    middle.write_bytes(bytes(data))
    with pytest.raises(LedgerDamagedError, match="1 records before that are readable"):
        read_ledger(tmp_path)


@pytest.mark.parametrize("place", [1, -1])
def test_every_flipped_bit_is_noticed_in_the_newest_segment_too(tmp_path: Path, place: int) -> None:
    ledger = opened(tmp_path)
    for name in "abc":
        ledger.append([SweepPaused(name)])
    chosen = segments(tmp_path)[place]
    data = chosen.read_bytes()
    for position in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        chosen.write_bytes(bytes(flipped))
        with pytest.raises(LedgerDamagedError, match="records before that are readable"):
            opened(tmp_path)


def test_every_way_to_end_too_early_is_a_torn_tail(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    ledger.append([SweepPaused("a")])
    ledger.append([SweepPaused("b")])
    last = segments(tmp_path)[-1]
    data = last.read_bytes()
    for size in range(len(data)):
        last.write_bytes(data[:size])
        assert len(read_ledger(tmp_path)) == 1


def test_a_missing_segment_is_refused(tmp_path: Path) -> None:
    ledger = opened(tmp_path)
    for name in "abc":
        ledger.append([SweepPaused(name)])
    segments(tmp_path)[1].unlink()
    with pytest.raises(LedgerDamagedError, match="records 1 to 1 are missing"):
        read_ledger(tmp_path)


def test_a_segment_that_exists_is_never_overwritten(tmp_path: Path) -> None:
    first, second = opened(tmp_path), opened(tmp_path)
    first.append([SweepPaused("first"), SweepPaused("and more")])
    with pytest.raises(SweepRunningError, match="another driver has continued"):
        second.append([SweepPaused("second")])
    assert [r.event for r in read_ledger(tmp_path)] == [SweepPaused("first"), SweepPaused("and more")]


def test_merging_changes_nothing_but_the_number_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "MERGE_AFTER", 4)
    ledger, tail = opened(tmp_path), LedgerTail(tmp_path)
    seen = []
    for number in range(30):
        ledger.append([SweepPaused(str(number))])
        seen += tail.read_new() if number % 3 == 0 else []
    seen += tail.read_new()
    assert len(segments(tmp_path)) < 12
    assert [r.event for r in read_ledger(tmp_path)] == [SweepPaused(str(n)) for n in range(30)]
    assert seen == read_ledger(tmp_path)
    assert opened(tmp_path).append([SweepPaused("more")])[0].sequence == 30


def test_a_merge_that_was_cut_off_reads_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "MERGE_AFTER", 4)
    monkeypatch.setattr(FolderStorage, "delete", lambda *_: None)
    ledger = opened(tmp_path)
    for number in range(20):
        ledger.append([SweepPaused(str(number))])
    assert [r.sequence for r in read_ledger(tmp_path)] == list(range(20))


def test_a_newer_schema_is_refused_with_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_module, "SCHEMA_VERSION", 99)
    opened(tmp_path).append([SweepPaused("from the future")])
    monkeypatch.undo()
    with pytest.raises(LedgerError, match="schema version 99 is newer"):
        read_ledger(tmp_path)


def test_storage_that_refuses_has_committed_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = opened(tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(FolderStorage, "create", full)
    with pytest.raises(OSError, match="No space left on device"):
        ledger.append([SweepPaused("a")])
    monkeypatch.undo()
    assert ledger.append([SweepPaused("b")])[0].sequence == 0
