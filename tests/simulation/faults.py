"""What goes wrong in a simulation: each fault does it to the machine, now or with its next writes."""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable
from pathlib import Path

from service.errors import LedgerDamagedError, SweepRunningError
from service.tuning.ledger import read_ledger
from tests.simulation.disk import Killed, broken, full
from tests.simulation.training import Attempt
from tests.simulation.world import Machine
from tests.simulation.zombies import contents, take_over_from

Fault = Callable[[Machine, random.Random], None]
WRITES = 40  # a strike comes with one of so many durable calls


def kill_driver(machine: Machine, rng: random.Random) -> None:  # noqa: ARG001  # every fault has this form
    """SIGKILL between two events."""
    if machine.driver is not None:
        machine.lose_driver("killed")


def kill_at_a_write(machine: Machine, rng: random.Random) -> None:
    """SIGKILL of whoever makes one of the next durable calls, before or after it."""
    machine.disk.arm(rng.randint(1, WRITES), machine.disk.kill, after=rng.random() < 0.5)


def cut_power(machine: Machine, rng: random.Random) -> None:
    """The whole machine goes: what was not synced may be lost."""

    def strike() -> None:
        machine.note("power cut")
        machine.disk.cut_power()
        machine.tracker = None
        machine.at(0.0, lambda: machine.lose_driver("power cut"))
        machine.disk.kill()

    machine.disk.arm(rng.randint(1, WRITES), strike, after=rng.random() < 0.5)


def lose_worker(machine: Machine, rng: random.Random) -> None:
    """A worker dies."""
    if machine.running:
        machine.lose_worker(_any(machine, rng), "infrastructure")


def repeat_messages(machine: Machine, rng: random.Random) -> None:
    """A worker that was given up comes back and says again what it had to say, a little later."""
    driver = machine.driver
    if driver is None or not machine.running:
        return
    attempt = _any(machine, rng)
    report = None
    if attempt.key[0] not in machine.training.misbehaving:
        with machine.mortal(), contextlib.suppress(FileNotFoundError):  # what it writes may be tidied away meanwhile
            report = machine.training.train(attempt)
    if machine.driver is not driver:
        return
    machine.lose_worker(attempt, "infrastructure")

    def come_back() -> None:
        if machine.driver is None:
            return
        trial, number = attempt.key
        before = machine.driver.history.sequence
        with machine.mortal():
            conductor = machine.driver.conductor
            if report is not None:
                machine.deliver_stale(conductor, attempt, report)
            conductor.attempt_over(trial, number)
            conductor.attempt_failed(trial, number, "user", "late")
            if conductor.history.sequence != before:
                machine.complaints.append(f"a late message of trial {trial}, attempt {number} was put on record")

    machine.at(rng.uniform(0.1, 8.0), come_back)


def fill_disk(machine: Machine, rng: random.Random) -> None:
    """Some writes fail for want of space."""
    machine.disk.errors += [(full(), False)] * rng.randint(1, 6)


def break_disk(machine: Machine, rng: random.Random) -> None:
    """Some writes fail, others only seem to."""
    machine.disk.errors += [(broken(), rng.random() < 0.5) for _ in range(rng.randint(1, 6))]


def damage_checkpoint(machine: Machine, rng: random.Random) -> None:
    """The newest checkpoint of a running trial is truncated or gone, and its worker dies."""
    if machine.driver is None or not machine.running:
        return
    attempt = _any(machine, rng)
    saved = machine.driver.history.trials[attempt.key[0]].latest_checkpoint
    if saved is not None:
        machine.note(f"damaging {saved.path}")
        path = machine.folder / saved.path
        if rng.random() < 0.5:
            path.unlink(missing_ok=True)
        else:
            os.truncate(path, 3)
        machine.damaged.add(saved.path)
    machine.lose_worker(attempt, "infrastructure")


def leave_torn_segment(machine: Machine, rng: random.Random) -> None:
    """The driver dies with half a commit written: a disk that lies about what it has synced."""
    if machine.driver is None:
        return
    records = machine.driver.history.sequence
    machine.lose_driver("killed in a commit")
    segments = sorted((machine.folder / "ledger").glob("*.jsonl"))
    if segments:
        data = segments[-1].read_bytes()
        torn = machine.folder / "ledger" / f"{records:012d}.jsonl"
        torn.write_bytes(data[: rng.randint(0, len(data) - 1)])


def flip_a_bit(machine: Machine, rng: random.Random) -> None:
    """A bit of the ledger flips: reading refuses, and says what is readable; then the backup is put back."""
    machine.disk.disarm()
    if machine.driver is None:
        return
    machine.lose_driver("killed before a bit flips")
    segments = sorted((machine.folder / "ledger").glob("*.jsonl"))
    chosen = rng.choice(segments)
    backup = chosen.read_bytes()
    place = rng.randrange(len(backup))
    chosen.write_bytes(backup[:place] + bytes([backup[place] ^ (1 << rng.randrange(8))]) + backup[place + 1 :])
    try:
        read_ledger(machine.folder)
        if not _is_covered(chosen, segments):
            machine.complaints.append(f"byte {place} of {chosen.name} has a flipped bit, and nobody noticed")
    except LedgerDamagedError as error:
        if "records before that are readable" not in str(error):
            machine.complaints.append(f"the refusal does not say what is readable: {error}")
    chosen.write_bytes(backup)


def _is_covered(chosen: Path, segments: list[Path]) -> bool:
    """Whether a merged segment holds the same records: then this one is not even read."""
    first = int(chosen.name[:12])
    return any("-" in s.name and s != chosen and int(s.name[:12]) <= first <= int(s.name[13:25]) for s in segments)


def trouble_mlflow(machine: Machine, rng: random.Random) -> None:
    """For a while MLflow refuses calls, loses replies, or does the work after its client has gone."""
    machine.server.trouble = {"refuse": rng.uniform(0, 0.6), "lose": rng.uniform(0, 0.3), "late": rng.uniform(0, 0.1)}
    lasts = rng.uniform(5, 60)
    machine.at(lasts, machine.server.recover)


def kill_tracker(machine: Machine, rng: random.Random) -> None:
    """SIGKILL of the tracker at one of its calls."""
    machine.arm_tracker(rng.randint(1, 8), after=rng.random() < 0.5)


def pause(machine: Machine, rng: random.Random) -> None:  # noqa: ARG001  # every fault has this form
    """SIGTERM: a clean pause; another driver comes later."""
    if machine.driver is not None:
        with machine.mortal():
            machine.driver.pause("received SIGTERM")
        machine.at(0.0, machine.settle)


def start_twice(machine: Machine, rng: random.Random) -> None:  # noqa: ARG001  # every fault has this form
    """A second driver wants the sweep while one is at work: it is refused and writes nothing."""
    if machine.driver is None or machine.disk.errors:
        return
    before = contents(machine)
    try:
        machine.new_driver(99)
        machine.complaints.append("two drivers have the sweep")
    except SweepRunningError:
        if contents(machine) != before:
            machine.complaints.append("a driver that was refused has written")
    except Killed:
        machine.disk.disarm()


def stop_driver(machine: Machine, rng: random.Random) -> None:
    """The driver is stopped (SIGSTOP) in one of its next writes, another takes over, then the first wakes up."""

    def strike() -> None:
        zombie = machine.driver
        if zombie is None or machine.is_over:
            return
        machine.note(f"driver {zombie.lease.epoch} is stopped in a write")
        take_over_from(machine, zombie)

    machine.disk.arm(rng.randint(1, WRITES), strike, after=rng.random() < 0.5)


def set_clock(machine: Machine, rng: random.Random) -> None:
    """The wall clock jumps by an hour; the next driver sees it."""
    machine.wall_offset += rng.choice([-3600.0, 3600.0])
    kill_driver(machine, rng)


FAULTS: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        kill_driver, kill_at_a_write, cut_power, lose_worker, repeat_messages, fill_disk, break_disk, damage_checkpoint,
        leave_torn_segment, flip_a_bit, trouble_mlflow, kill_tracker, pause, start_twice, stop_driver, set_clock,
    )
}  # fmt: skip


def _any(machine: Machine, rng: random.Random) -> Attempt:
    return machine.running[rng.choice(sorted(machine.running))]
