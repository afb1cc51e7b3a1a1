"""`make bench-search`: our search and its peers on real learning curves; a table, a plot, and results that stay.

`python -m tests.benchmarks.search.run [--policies …] [--tasks …] [--seeds 3] [--workers 4] [--budget 4]`. A policy is a
name from the list (`--list`), or any searcher and scheduler of ours as in `tpe:n_startup=5+asha:variant=promotion`.
What is there already is not computed again, unless the code of a policy has changed; `--keep` keeps that, too.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Final

from service import plugins
from tests.benchmarks.search import latency, tasks
from tests.benchmarks.search.cells import Cell, Result, Store
from tests.benchmarks.search.policies import FULL_SEEDS_OF_DEAR, Policy, find, names
from tests.benchmarks.search.show import markdown, plot

RESULTS: Final = Path(__file__).parent / "results"
SHORT: Final = {"workers": [4], "seeds": 3, "budget": 4.0}
FULL: Final = {"workers": [4, 32], "seeds": 10, "budget": 16.0}


def main() -> int:
    """Runs what is missing and prints the table; exit code 1 where a cell failed."""
    given = _arguments()
    if given.list:
        print("\n".join(names(two_objectives=given.two_objectives)))
        return 0
    if given.latency is not None:
        print(latency.table(given.latency or plugins.names("searchers")))
        return 0
    store = Store(given.results)
    chosen = given.policies or names(two_objectives=given.two_objectives)
    failed = 0 if given.only_table else compute(store, list(_cells(given, chosen)), given)
    cells = set(_cells(given, chosen))
    results = [r for cell, r in store.results(chosen).items() if cell in cells and r.budget >= given.budget * 0.999]
    if not results:
        print("no results yet")
        return 1
    text = markdown(results, given.workers, given.budget)
    print(text)
    if given.output is not None:
        given.output.mkdir(parents=True, exist_ok=True)
        given.output.joinpath("search.md").write_text(text)
        plot(results, given.workers, given.output)
    return 1 if failed else 0


def compute(store: Store, cells: Sequence[Cell], given: argparse.Namespace) -> int:
    """Runs the cells that `store` lacks, `given.jobs` at a time; how many failed."""
    known = store.results({cell.policy for cell in cells})
    missing = [cell for cell in cells if not _is_known(known.get(cell), find(cell.policy), given)]
    sys.stderr.write(f"{len(cells)} cells, {len(missing)} of them to be run\n")
    failed, began = 0, time.monotonic()
    for done, (cell, result) in enumerate(_played(missing, given.budget, given.jobs), 1):
        if isinstance(result, Result):
            store.add(result)
            shown = f"regret {result.regret_at(given.budget):.4f}, {result.trials} trials, {result.seconds:.1f} s"
        else:
            failed += 1
            shown = f"failed: {type(result).__name__}: {result}"
        left = (time.monotonic() - began) / done * (len(missing) - done)
        head = f"[{done}/{len(missing)}, {left:.0f} s left]"
        sys.stderr.write(f"{head} {cell.policy} {cell.task} seed {cell.seed} workers {cell.workers}: {shown}\n")
    return failed


def run_cell(cell: Cell, budget: float) -> Result:
    """One cell, in this process."""
    return find(cell.policy).run(cell, budget)


def _played(cells: Sequence[Cell], budget: float, jobs: int) -> Iterator[tuple[Cell, Result | Exception]]:
    if jobs == 1:
        for cell in cells:
            try:
                yield cell, run_cell(cell, budget)
            except Exception as error:  # noqa: BLE001  # one cell's failure is told, the others go on
                yield cell, error
        return
    with ProcessPoolExecutor(jobs) as pool:
        asked: dict[Future[Result], Cell] = {pool.submit(run_cell, cell, budget): cell for cell in cells}
        for future in as_completed(asked):
            failure = future.exception()
            yield asked[future], RuntimeError(str(failure)) if failure else future.result()


def _is_known(result: Result | None, policy: Policy, given: argparse.Namespace) -> bool:
    if result is None or given.rerun or result.budget < given.budget * 0.999:
        return False
    return given.keep or result.version == policy.version


def _cells(given: argparse.Namespace, chosen: Sequence[str]) -> Iterator[Cell]:
    """Policy by policy, so that a run that is cut off has whole ones."""
    for policy in chosen:
        seeds = min(given.seeds, FULL_SEEDS_OF_DEAR) if find(policy).is_dear else given.seeds
        for workers in given.workers:
            for task in given.tasks:
                yield from (Cell(policy, task, given.first_seed + i, workers) for i in range(seeds))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench-search", description=__doc__)
    add = parser.add_argument
    add("--policies", nargs="+", help="all of --list where left out")
    add("--tasks", nargs="+", help="names of tasks, or `all`; six of them where left out")
    add("--seeds", type=int, help="how many")
    add("--first-seed", type=int, default=0)
    add("--workers", type=int, nargs="+")
    add("--budget", type=float, help="full trainings per worker")
    add("--full", action="store_true", help="4 and 32 workers, 16 full trainings, all tasks, 10 seeds (3 of dear ones)")
    add("--two-objectives", action="store_true", help="loss and seconds: the share the Pareto front leaves undominated")
    add("--jobs", type=int, default=1, help="cells at a time")
    add("--rerun", action="store_true", help="run also what is there")
    add("--keep", action="store_true", help="keep results of earlier versions of a policy")
    add("--only-table", action="store_true", help="run nothing")
    add("--list", action="store_true", help="the names of all policies")
    add("--latency", nargs="*", metavar="SEARCHER", help="time proposals instead; of all searchers where none is named")
    add("--results", type=Path, default=RESULTS, help="the folder of results")
    add("--output", type=Path, help="a folder for the table and the plot")
    given = parser.parse_args()
    for name, value in (FULL if given.full else SHORT).items():
        if getattr(given, name) is None:
            setattr(given, name, value)
    if given.tasks is None or given.tasks == ["all"]:
        given.tasks = tasks.names() if given.full or given.tasks else list(tasks.SHORT_TASKS)
    if given.two_objectives:  # the other tasks have no real run times
        given.tasks = [f"{name}{tasks.TWO}" for name in given.tasks if name.startswith("lcbench:")]
    return given


if __name__ == "__main__":
    sys.exit(main())
