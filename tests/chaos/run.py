"""`make chaos`: every fault with several seeds against real processes, and one table of what became of it."""

from __future__ import annotations

import argparse
import importlib
import json
import math
import random
import shutil
import sys
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from tests.chaos import clock, clusters, crashes, processes, storage, tracking, user_code
from tests.chaos.arena import Arena, FaultNotPossibleError
from tests.chaos.checker import Expected, check
from tests.chaos.collecting import collect
from tests.chaos.faults import Fault
from tests.chaos.house import House
from tests.chaos.outcome import Outcome, number_of

MODULES: Final = (processes, clusters, crashes, tracking, storage, user_code, clock)
FAULTS: Final[list[Fault]] = sorted(
    [fault for module in MODULES for fault in module.FAULTS],
    key=lambda fault: (fault.number, fault.name),
)
TESTED: Final = ("F1", "F4", "F5a", "F11", "F19a")  # the quickest, which `make test` does with this seed:
TESTED_SEED: Final = 0


@dataclass(slots=True)
class Row:
    """One fault's line of the table."""

    fault: str
    what: str
    runs: int = 0
    green: int = 0
    recovery_s: float = 0.0
    epochs_redone: int = 0
    seconds: float = 0.0
    skipped: str = ""
    problems: list[str] = field(default_factory=list)


class References:
    """The undisturbed runs: one per variant, for real, once."""

    def __init__(self, house: House, keep: Path | None = None) -> None:
        self.house, self.keep = house, keep
        self._by_variant: dict[str, Expected] = {}

    def of(self, variant: str) -> Expected:
        """What the undisturbed run of the variant came to; RuntimeError if even that breaks the promise."""
        if variant not in self._by_variant:
            with arena_of(variant, None, self.house) as arena:
                arena.start()
                arena.finish()
                outcome = collect(arena)
            expected = Expected.of(outcome)
            problems = check(outcome, expected)
            if problems:
                msg = f"the undisturbed {variant} sweep breaks the promise: {problems}"
                raise RuntimeError(msg)
            self._by_variant[variant] = expected
        return self._by_variant[variant]


@contextmanager
def arena_of(variant: str, reference: Expected | None, house: House) -> Iterator[Arena]:
    """A fresh arena, gone at the end."""
    arena = Arena(variant, reference, house=house)
    try:
        yield arena
    finally:
        arena.clear()


def disturb(fault: Fault, seed: int, references: References) -> tuple[Outcome, list[str]]:
    """One sweep with the fault; its outcome and what it breaks."""
    rng = random.Random(zlib.crc32(f"{fault.name}-{seed}".encode()))
    expected = references.of(fault.variant)
    with arena_of(fault.variant, expected, references.house) as arena:
        try:
            expected = fault.run(arena, rng)
            arena.finish()
        except FaultNotPossibleError:
            raise
        except Exception as error:  # noqa: BLE001  # one run that breaks must not hide what became of the others
            arena.broken.append(f"{type(error).__name__}: {error}")
        outcome = collect(arena)
        problems = check(outcome, expected)
        if problems and references.keep is not None:
            shutil.copytree(arena.place, references.keep / f"{fault.name}-{seed}", dirs_exist_ok=True)
        return outcome, problems


@dataclass(slots=True)
class Run:
    """One run of one fault."""

    fault: Fault
    seed: int
    recovery_s: float = 0.0
    epochs_redone: int = 0
    seconds: float = 0.0
    skipped: str = ""
    problems: list[str] = field(default_factory=list)


def run_once(fault: Fault, seed: int, references: References) -> Run:
    """One run, with a line for whoever waits."""
    run, began = Run(fault, seed), time.monotonic()
    try:
        outcome, run.problems = disturb(fault, seed, references)
        run.recovery_s, run.epochs_redone = outcome.recovery_s, outcome.epochs_redone
    except FaultNotPossibleError as error:
        run.skipped = str(error)
    run.seconds = time.monotonic() - began
    verdict = f"skipped: {run.skipped}" if run.skipped else "RED" if run.problems else "green"
    say(
        "\n".join(
            [f"{fault.name:5} seed {seed}: {verdict} in {run.seconds:.1f} s", *(f"      {p}" for p in run.problems)]
        )
    )
    return run


def row_of(fault: Fault, runs: list[Run]) -> Row:
    """All runs of one fault in one line."""
    done = [run for run in runs if not run.skipped]
    return Row(
        fault.name,
        fault.what,
        runs=len(done),
        green=sum(not run.problems for run in done),
        recovery_s=max((run.recovery_s for run in done), default=0.0),
        epochs_redone=sum(run.epochs_redone for run in done),
        seconds=sum(run.seconds for run in done),
        skipped=next((run.skipped for run in runs if run.skipped), ""),
        problems=[f"seed {run.seed}: {problem}" for run in done for problem in run.problems],
    )


def run_all(faults: list[Fault], given: argparse.Namespace) -> list[Row]:
    """Every fault with its seeds, some at the same time; those that want the machine for themselves come last."""
    ways = Counter(fault.number for fault in faults)
    tasks = [(fault, given.seed + i) for fault in faults for i in range(math.ceil(given.repeats / ways[fault.number]))]
    if given.tested:
        tasks = [(fault, seed) for fault, seed in tasks if fault.name not in TESTED or seed != TESTED_SEED]
    runs: list[Run] = []
    with House() as house, ThreadPoolExecutor(given.jobs) as pool:
        references = References(house, given.keep)
        list(pool.map(references.of, sorted({fault.variant for fault, _ in tasks})))
        for is_alone in (False, True):
            chosen = [(fault, seed, references) for fault, seed in tasks if fault.is_alone is is_alone]
            runs += [run_once(*task) for task in chosen] if is_alone else pool.map(lambda task: run_once(*task), chosen)
    done = [fault for fault in faults if any(run.fault is fault for run in runs)]
    return [row_of(fault, [run for run in runs if run.fault is fault]) for fault in done]


def say(text: str) -> None:
    """A line for whoever waits."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def table(rows: list[Row], *, is_markdown: bool = False) -> str:
    """One line per fault; what is broken stands below."""
    head = ["fault", "what", "runs", "green", "worst recovery (s)", "epochs redone", "seconds"]
    cells = [
        [
            row.fault,
            row.what + (f" (skipped: {row.skipped})" if row.skipped else ""),
            str(row.runs),
            str(row.green),
            f"{row.recovery_s:.1f}",
            str(row.epochs_redone),
            f"{row.seconds:.0f}",
        ]
        for row in rows
    ]
    if is_markdown:
        return "\n".join("| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *cells])
    widths = [max(len(line[i]) for line in [head, *cells]) for i in range(len(head))]
    lines = ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)) for line in [head, *cells]]
    broken = [f"{row.fault}: {problem}" for row in rows for problem in row.problems]
    skipped = sum(not row.runs for row in rows)
    verdict = f"all green, {skipped} skipped" if skipped < len(rows) else "nothing was run"
    return "\n".join([*lines, "", *(["broken:", *broken] if broken else [verdict])])


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; 1 where anything is red."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run", description=__doc__)
    parser.add_argument("--repeats", type=int, default=5, help="runs of each fault at least, its ways taken together")
    parser.add_argument("--jobs", type=int, default=1, help="sweeps at the same time")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--only", nargs="*", default=[], help="these faults, as F1 or F13b")
    parser.add_argument("--tested", action="store_true", help="leave out the runs that `make test` does")
    parser.add_argument("--json", type=Path, help="a file for the rows")
    parser.add_argument("--keep", type=Path, help="a folder for what red runs leave")
    parser.add_argument("--markdown", type=Path, help="a file for the table as Markdown")
    parser.add_argument("--baseline", action="store_true", help="the same faults against plain Ray Tune")
    given = parser.parse_args(arguments)
    if given.baseline:
        baseline = importlib.import_module("tests.chaos.baseline.run")  # plain Ray Tune and all that it imports
        return int(baseline.main(sys.argv[1:] if arguments is None else arguments))
    chosen = [f for f in FAULTS if not given.only or is_chosen(f.name, given.only)]
    unknown = [text for text in given.only if not any(is_chosen(fault.name, [text]) for fault in FAULTS)]
    if unknown:
        parser.error(f"there is no fault {', '.join(unknown)}; there are {', '.join(fault.name for fault in FAULTS)}")
    rows = run_all(chosen, given)
    say("\n" + table(rows))
    if given.json:
        given.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    if given.markdown:
        given.markdown.write_text(table(rows, is_markdown=True) + "\n")
    return 1 if any(row.problems for row in rows) else 0


def is_chosen(name: str, only: list[str]) -> bool:
    """Whether a fault is among those asked for; F13 stands for all of its ways."""
    return name in only or f"F{number_of(name)}" in only


if __name__ == "__main__":
    sys.exit(main())
