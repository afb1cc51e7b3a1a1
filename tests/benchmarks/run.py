"""`make bench`: measures what the project promises, prints one table of asked and measured, and leaves bench.json.

`python -m tests.benchmarks.run [--only NAME ...] [--folder FOLDER] [--output bench.json]`; exit code 1 where a promise
is not kept. Nothing else should run on the machine meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.benchmarks import cli_start, digits_sweep, noop_trials, service_load, sizing, store_rates
from tests.benchmarks.measure import ROOT, Measure

BENCHMARKS: dict[str, Callable[[Path], list[Measure]]] = {
    "cli": cli_start.measure,
    "store": store_rates.measure,
    "service": service_load.measure,
    "noop": noop_trials.measure_cost,
    "digits": digits_sweep.measure,
    "growth": noop_trials.measure_growth,
    "sizing": sizing.measure,
}


def main() -> int:
    """Run what is asked for, one after the other."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--only", choices=list(BENCHMARKS), nargs="+", default=list(BENCHMARKS))
    parser.add_argument("--folder", type=Path, help="keep what the benchmarks leave behind here")
    parser.add_argument("--output", type=Path, default=ROOT / "bench.json")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tuneyard-bench-") as temporary:
        folder = (given.folder or Path(temporary)).resolve()
        measures: list[Measure] = []
        for name in given.only:
            sys.stderr.write(f"measuring: {name} …\n")
            (folder / name).mkdir(parents=True, exist_ok=True)
            measures += BENCHMARKS[name](folder / name)
    Console(width=None if sys.stdout.isatty() else 160, highlight=False).print(table(measures))
    machine = {"cpus": os.cpu_count(), "python": platform.python_version(), "load": os.getloadavg()[0]}
    content = {"at": time.time(), "machine": machine, "measures": [m.to_dict() for m in measures]}
    given.output.write_text(json.dumps(content, indent=1))
    return 0 if all(measure.is_kept for measure in measures) else 1


def table(measures: list[Measure]) -> Table:
    """Asked and measured, a line for each."""
    drawn = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("", "what", "asked", "measured", "note"):
        drawn.add_column(column)
    for measure in measures:
        mark = " " if measure.asked is None else "✓" if measure.is_kept else "✗"
        asked = "" if measure.asked is None else f"≤ {measure.asked:g} {measure.unit}"
        drawn.add_row(mark, measure.name, asked, f"{measure.measured:.3g} {measure.unit}", measure.note)
    return drawn


if __name__ == "__main__":
    sys.exit(main())
