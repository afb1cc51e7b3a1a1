"""The benchmark's results for people: a Markdown table and a plot of regret over time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from tests.benchmarks.search.cells import Result
from tests.benchmarks.search.peer import PEERS
from tests.benchmarks.search.scores import CONTROL, MOMENTS, SIGNIFICANT, Interval, Table, moment
from tests.benchmarks.search.tasks import TWO

BUDGETS: Final = (1.0, 4.0, 16.0)
OURS: Final = "tuneyard"
MOST_OF_BEST: Final = {4.0: 0.7, 16.0: 0.6}
MOST_TIME: Final = 1 / 6


def markdown(results: Sequence[Result], workers: Sequence[int], budget: float) -> str:
    """One table for each number of workers."""
    table = Table.of(results)
    return "\n".join(_section(table.restricted(count), results, count, budget) for count in workers)


def _section(table: Table, results: Sequence[Result], workers: int, budget: float) -> str:
    budgets = [b for b in BUDGETS if b <= budget * (1 + 1e-9)]
    ranks = {b: table.mean_ranks(b) for b in budgets}
    common = len(table.comparable(budgets[-1])[1])
    head = [
        "policy", "cells", *(f"{_scored(results)} at {b:g}" for b in budgets), *(f"rank at {b:g}" for b in budgets),
        "ours is so much of it", "time to random's end", f"worse / better than {CONTROL}", "ms a trial",
    ]  # fmt: skip
    lines = [
        f"{workers} workers; ranks are over the {common} cells that all have", "",
        f"| {' | '.join(head)} |", f"|{'---|' * len(head)}",
    ]  # fmt: skip
    for name in sorted(table.curves, key=lambda n: table.mean_regret(n, budgets[-1])[0]):
        took = [r.seconds / max(1, r.trials) for r in results if r.policy == name and r.workers == workers]
        row = [
            name, str(len(table.regrets(name, budgets[-1]))), *(_shown(table.mean_regret(name, b)) for b in budgets),
            *(_shown(ranks[b][name], 1) if name in ranks[b] else "" for b in budgets),
            _shown(table.ratio(OURS, name, budgets[-1]), 2) if name != OURS else "",
            _shown(table.time_share(name, budgets[-1]), 2), _tested(table, name, budgets[-1]),
            f"{1000 * np.mean(took):.0f}",
        ]  # fmt: skip
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join([*lines, "", *bars(table, budgets)]) + "\n"


def bars(table: Table, budgets: Sequence[float]) -> list[str]:
    """What is asked of our default, and whether it holds; nothing where our default was not run."""
    if OURS not in table.curves or len(table.curves) == 1:
        return []
    lines = []
    for budget in budgets:
        ranks = table.mean_ranks(budget)
        if OURS in ranks:
            place = 1 + sum(rank[0] < ranks[OURS][0] for rank in ranks.values())
            lines.append(_bar(f"place by mean rank at {budget:g}", place, 2 if budget == 1 else 1))
        peers = [name for name in table.curves if name in PEERS]
        ratios = [table.ratio(OURS, name, budget)[0] for name in peers]
        if budget in MOST_OF_BEST and ratios:
            text = f"mean regret at {budget:g} as a share of the best peer's"
            lines.append(_bar(text, float(np.nanmax(ratios)), MOST_OF_BEST[budget]))
    lines.append(_bar("time to random's end", table.time_share(OURS, budgets[-1])[0], MOST_TIME))
    worse = [task for task, (mean, p) in table.against(OURS, budgets[-1]).items() if p < SIGNIFICANT and mean > 0]
    return [*lines, _bar(f"tasks significantly worse than {CONTROL}", len(worse), 0)]


def _bar(text: str, value: float, most: float) -> str:
    return f"- {'kept' if value <= most else 'not kept'}: {text} {value:.3g}, at most {most:.3g}"


def _scored(results: Sequence[Result]) -> str:
    return "undominated" if results[0].task.endswith(TWO) else "regret"


def _tested(table: Table, name: str, budget: float) -> str:
    found = table.against(name, budget)
    worse = sum(p < SIGNIFICANT and mean > 0 for mean, p in found.values())
    better = sum(p < SIGNIFICANT and mean < 0 for mean, p in found.values())
    return f"{worse} / {better} of {len(found)} tasks"


def _shown(interval: Interval, digits: int = 3) -> str:
    middle, low, high = interval
    texts = ["never" if np.isinf(value) else f"{value:.{digits}f}" for value in (middle, low, high)]
    return "" if np.isnan(middle) else f"{texts[0]} ({texts[1]} to {texts[2]})"


def plot(results: Sequence[Result], workers: Sequence[int], folder: Path) -> list[Path]:
    """Mean regret over time, a picture for each number of workers; matplotlib comes with MLflow."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import LogLocator, ScalarFormatter

    written = []
    for count in workers:
        table = Table.of(results).restricted(count)
        figure, axes = plt.subplots(figsize=(10, 5.5))
        axes.set_prop_cycle(color=[plt.colormaps["tab20"](i) for i in range(20)])
        order = sorted(table.curves, key=lambda n: _last(table, n))
        for i, name in enumerate(order):
            mean = np.mean(list(table.curves[name].values()), axis=0)
            style = {"linewidth": 3.0, "color": "black"} if name == OURS else {"linewidth": 1.4}
            axes.plot(MOMENTS, mean, label=name, linestyle="--" if i % 2 else "-", **style)
        axes.set(xscale="log", yscale="log", xlabel="full trainings per worker", ylabel=f"mean {_scored(results)}")
        axes.set(title=f"{count} workers", xlim=(MOMENTS[moment(1 / 16)], None))
        axes.xaxis.set_major_locator(LogLocator(base=4))
        axes.yaxis.set_minor_formatter(ScalarFormatter())
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.xaxis.set_major_formatter(ScalarFormatter())
        axes.grid(visible=True, which="both", alpha=0.25)
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
        path = folder / f"search-{count}.png"
        figure.savefig(path, dpi=110, bbox_inches="tight")
        plt.close(figure)
        written.append(path)
    return written


def _last(table: Table, name: str) -> float:
    curve = np.mean(list(table.curves[name].values()), axis=0)
    known = curve[~np.isnan(curve)]
    return float(known[-1]) if len(known) else np.inf
