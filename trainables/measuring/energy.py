"""The energy of a training: estimated from its time, and measured where the machine can; the two are never mixed up."""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Any, Final, Protocol

_RAPL: Final = Path("/sys/class/powercap")
_GPUS: Final = Path("/proc/driver/nvidia/gpus")


class EnergyMeter(Protocol):
    """Adds up the energy between `start` and `stop`. `name` says which metric it is."""

    name: str

    def start(self) -> None:
        """Begin a span."""

    def stop(self) -> float:
        """End the span; the energy of all spans so far, in watt-hours."""


class Estimate:
    """Seconds times an assumed power: as good as the assumption, and called an estimate."""

    name = "energy_estimate_wh"

    def __init__(self, watts: float) -> None:
        self._watts, self._seconds, self._since = watts, 0.0, 0.0

    def start(self) -> None:
        """Begin a span."""
        self._since = time.perf_counter()

    def stop(self) -> float:
        """Watts times the seconds of all spans."""
        self._seconds += time.perf_counter() - self._since
        return self._watts * self._seconds / 3600


class Measurement:
    """The machine's own counters (RAPL of processors, NVML of GPUs), read by codecarbon without a network.

    What codecarbon makes of assumptions is left out: all of memory's energy, and a processor's that has no counter.
    """

    name = "energy_wh"

    def __init__(self) -> None:
        from codecarbon import OfflineEmissionsTracker

        logging.getLogger("codecarbon").setLevel(logging.ERROR)
        self._tracker: Any = OfflineEmissionsTracker(
            country_iso_code="USA", save_to_file=False, log_level="error", allow_multiple_runs=True
        )
        self._wh, self._span = 0.0, 0

    def start(self) -> None:
        """Begin a span."""
        self._span += 1
        self._tracker.start_task(str(self._span))

    def stop(self) -> float:
        """What the counters say of all spans."""
        self._wh += counted_wh(self._tracker.stop_task(str(self._span)), has_rapl=_can_read_rapl())
        return self._wh


def counted_wh(said: Any, *, has_rapl: bool) -> float:  # noqa: ANN401  # codecarbon's, which may not be there
    """The watt-hours that counters have counted, of what codecarbon says in kilowatt-hours."""
    return 1000 * (float(said.gpu_energy) + (float(said.cpu_energy) if has_rapl else 0.0))


def _can_read_rapl() -> bool:
    return any(os.access(path, os.R_OK) for path in _RAPL.glob("*/energy_uj"))


def can_measure() -> bool:
    """Whether this machine has counters of energy that this process may read, and codecarbon is there to read them."""
    import importlib.util

    return (_can_read_rapl() or any(_GPUS.glob("*"))) and importlib.util.find_spec("codecarbon") is not None


def energy_meters(watts: float) -> list[EnergyMeter]:
    """An estimate with an assumed power of `watts`, and a measurement as well where the machine can."""
    return [Estimate(watts), *([Measurement()] if can_measure() else [])]
