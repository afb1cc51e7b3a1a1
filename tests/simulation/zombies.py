"""A driver that sleeps while another takes its sweep over, and then wakes up: it must find out before it writes."""

from __future__ import annotations

from service.errors import SweepRunningError
from service.tuning.assignment import Report
from service.tuning.sweep_driver import Driver
from tests.simulation.disk import Killed
from tests.simulation.training import Attempt
from tests.simulation.world import Machine, arrival_of


def take_over_from(machine: Machine, zombie: Driver) -> None:
    """Another driver takes over from `zombie`, which sleeps in a write; it commits a little, then that wakes up."""
    machine.disk.disarm()
    asleep, machine.running, machine.driver = list(machine.running.values()), {}, None
    machine.zombies[zombie.lease.epoch] = zombie
    machine.start_driver()
    for attempt in list(machine.running.values()):
        machine.epoch_over(attempt)
    machine.at(0.1, lambda: _wake(machine, zombie, asleep))


def _wake(machine: Machine, zombie: Driver, asleep: list[Attempt]) -> None:
    before = contents(machine)
    for attempt in asleep:
        epoch = zombie.history.trials[attempt.key[0]].epoch + 1
        report = Report(epoch, {"loss": -1.0}, 0.0, None, diverged=False)
        try:
            if zombie.conductor.report(arrival_of(attempt, report)):
                machine.complaints.append(f"a driver that has lost the sweep lets {attempt.key} go on")
        except SweepRunningError:
            continue
        except Killed:
            machine.disk.disarm()
    if contents(machine) != before:
        machine.complaints.append("a driver that has lost the sweep has written")


def contents(machine: Machine) -> dict[str, bytes]:
    """The ledger and the checkpoints, as they lie on the disk."""
    folders = [machine.folder / name for name in ("ledger", "checkpoints")]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {str(path): path.read_bytes() for path in files}
