"""What is asked of a driver while it runs, beside its end: one small file in the sweep's folder that it reads again.

A file, since it outlives both sides: a driver that starts later finds what was asked of the one before.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from service.tuning.confined import read_object_in
from service.tuning.storage_place import Place, storage_at
from service.tuning.sweep_folder import CONTROL_FILE


@dataclass(frozen=True, slots=True)
class Control:
    """`max_concurrent_trials`: how many may run at once from now on, at least one; None leaves it to the sweep file.

    `max_trials`: how many configurations the sweep may try in all; only more than before has an effect.
    `pause`: trials save with their next report, and the driver ends then. Whoever starts the next one takes it back.
    """

    max_concurrent_trials: int | None = None
    max_trials: int | None = None
    pause: bool = False


def read_control(place: Place) -> Control | None:
    """What is asked of the sweep in `place`; None while that cannot be told. What is no such number asks nothing."""
    try:
        found = read_object_in(place, CONTROL_FILE)
    except FileNotFoundError:
        return None if isinstance(place, Path) and not place.is_dir() else Control()
    except (OSError, ValueError):
        return None
    at_once = _number(found.get("max_concurrent_trials"))
    limit = None if at_once is None else max(1, at_once)
    return Control(limit, _number(found.get("max_trials")), pause=found.get("pause") is True)


def write_control(place: Place, control: Control) -> None:
    """Ask `control` of the sweep in `place`, in place of what was asked before."""
    asked = {name: value for name, value in asdict(control).items() if value not in (None, False)}
    storage_at(place).replace(CONTROL_FILE, json.dumps(asked).encode())


def _number(value: Any) -> int | None:  # noqa: ANN401  # whatever stands in the file
    return value if isinstance(value, int) and not isinstance(value, bool) else None
