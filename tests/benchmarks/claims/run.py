"""`make claims`: what people believe of training and tuning, each claim as a sweep that Tuneyard runs here.

`python -m tests.benchmarks.claims.run [--only NAME ...] [--only-table]`. Each claim's result becomes a line of
results.jsonl, in place of its earlier one, and the README's table is written from these lines.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.claims.catalogue import CLAIMS
from tests.benchmarks.claims.claim import Claim, Ran, described, intervals_of, verdict
from tests.benchmarks.claims.fits import fits_of
from tests.benchmarks.measure import ROOT, module, timed

RESULTS: Final = Path(__file__).parent / "results.jsonl"
README: Final = ROOT / "README.md"
BEGIN: Final = "<!-- claims: written by `make claims` -->"
END: Final = "<!-- end of claims -->"
Result = dict[str, Any]


def main() -> int:
    """Run what is asked for, one after the other."""
    names = [claim.name for claim in CLAIMS]
    parser = argparse.ArgumentParser(prog="make claims", description=__doc__)
    parser.add_argument("--only", choices=names, nargs="+", default=names)
    parser.add_argument("--only-table", action="store_true", help="run nothing; write the README's table")
    parser.add_argument("--folder", type=Path, help="keep the sweeps here")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tuneyard-claims-") as temporary:
        for claim in () if given.only_table else (claim for claim in CLAIMS if claim.name in given.only):
            sys.stderr.write(f"running: {claim.name} …\n")
            result = run(claim, (given.folder or Path(temporary)).resolve() / claim.name)
            save(result)
            print("\n".join([claim.says, *answer(claim, result), ""]))
    README.write_text(with_table(README.read_text(encoding="utf-8"), results()), encoding="utf-8")
    return 0


def run(claim: Claim, folder: Path) -> Result:
    """Run the claim's sweeps and measure."""
    folder.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    sweeps = [_sweep(claim, folder, number) for number in range(len(claim.runs))]
    fits = [fits_of(sweep) for sweep in sweeps]
    return {
        "claim": claim.name,
        "on": time.strftime("%Y-%m-%d", time.gmtime()),
        "versions": {name: version(name) for name in ("tuneyard", "torch", "pytorch-lightning", "scikit-learn")},
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "fits": sum(map(len, fits)),
        "epochs": sum(len(fit.curve) for found in fits for fit in found),
        "wall_s": round(time.monotonic() - began),
        "parts": claim.judge(Ran(sweeps, fits)),
    }


def _sweep(claim: Claim, folder: Path, number: int) -> Path:
    sets = [word for override in claim.runs[number] for word in ("--set", override)]
    path = str(claim.path.relative_to(ROOT))
    command = module("service.cli.main", "--data-dir", str(folder / "home"), "run", path, "--json", *sets)
    _, output = timed(command, folder / f"{number}.log")
    return Path(json.loads(output.strip().splitlines()[-1])["folder"])


def results() -> dict[str, Result]:
    """The last result of each claim that was run."""
    if not RESULTS.exists():
        return {}
    lines = (json.loads(line) for line in RESULTS.read_text(encoding="utf-8").splitlines())
    return {result["claim"]: result for result in lines}


def save(result: Result) -> None:
    """Write one result in place of the claim's earlier one."""
    kept = {**results(), result["claim"]: result}
    lines = [json.dumps(kept[claim.name]) for claim in CLAIMS if claim.name in kept]
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


def answer(claim: Claim, result: Result | None) -> tuple[str, str]:
    """(what was measured, the verdict)."""
    if result is None:
        return "was not run", ""
    intervals = intervals_of(claim, result)
    late = [part["late"] for part in result["parts"]]
    parts = [described(*one) for one in zip(claim.parts, intervals, late, strict=True)]
    seeds = len(result["parts"][0]["values"])
    return "; ".join(parts) + f"; {seeds} seeds", verdict(claim, intervals)


def with_table(text: str, found: dict[str, Result]) -> str:
    """The README with the table in place of the one it has."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    rows = [
        f"| {claim.says} | {claim.published} | {claim.here} | {' | '.join(answer(claim, found.get(claim.name)))} |"
        for claim in CLAIMS
    ]
    head = ["| claim | published | here | measured: mean (95 % interval) | verdict |", "|---|---|---|---|---|"]
    return before + "\n".join([BEGIN, "", *head, *rows, "", END]) + after


if __name__ == "__main__":
    sys.exit(main())
