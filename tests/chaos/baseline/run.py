"""`make chaos BASELINE=1`: the faults that plain Ray Tune can have, with the same checker and the same table."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path

from tests.chaos.arena import FaultNotPossibleError
from tests.chaos.baseline.faults import CASES, run_fault
from tests.chaos.checker import check
from tests.chaos.run import Row, is_chosen, say, table


def row_of(name: str, seeds: range, keep: Path | None) -> Row:
    """All runs of one fault; `keep` is a folder that their files stay in."""
    row, began = Row(name, CASES[name].what), time.monotonic()
    for seed in seeds:
        with tempfile.TemporaryDirectory(prefix="chaos") as folder:
            root = keep / f"{name}-{seed}" if keep else Path(folder)
            try:
                outcome, expected = run_fault(name, seed, root)
            except FaultNotPossibleError as error:
                row.skipped = str(error)
                break
        problems = check(outcome, expected)
        row.runs, row.green = row.runs + 1, row.green + (not problems)
        row.recovery_s = max(row.recovery_s, outcome.recovery_s)
        row.epochs_redone += outcome.epochs_redone
        row.problems += [f"seed {seed}: {problem}" for problem in problems]
        say(f"{name:5} seed {seed}: {'green' if not problems else 'RED'}, {time.monotonic() - began:.1f} s so far")
        for problem in problems:
            say(f"      {problem}")
    return replace(row, seconds=time.monotonic() - began)


def main(arguments: list[str]) -> int:
    """Run what the command line asks for; 0 whatever comes out: the baseline promises nothing."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.run --baseline", description=__doc__)
    parser.add_argument("--baseline", action="store_true")
    parser.add_argument("--repeats", type=int, default=5, help="runs of each fault, with a seed each")
    parser.add_argument("--jobs", type=int, default=1, help="taken, but not heeded: one at a time")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--only", nargs="*", default=[], help="these faults, as F1 or F13b")
    parser.add_argument("--json", type=Path, help="a file for the rows")
    parser.add_argument("--markdown", type=Path, help="a file for the table as Markdown")
    parser.add_argument("--keep", type=Path, help="a folder for what the runs leave")
    given = parser.parse_args(arguments)
    chosen = [name for name in CASES if not given.only or is_chosen(name, given.only)]
    unknown = [text for text in given.only if not any(is_chosen(name, [text]) for name in CASES)]
    if unknown:
        parser.error(f"there is no fault {', '.join(unknown)}; there are {', '.join(CASES)}")
    rows = [row_of(name, range(given.seed, given.seed + given.repeats), given.keep) for name in chosen]
    say("\n" + table(rows))
    if given.json:
        given.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    if given.markdown:
        given.markdown.write_text(table(rows, is_markdown=True) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
