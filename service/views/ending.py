"""Says what came of a sweep, the same for one of this machine and for one of a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from service.views.progress import console, duration, ended, number

if TYPE_CHECKING:
    from rich.table import Table


def print_ending(
    sweep_id: str, outcome: str, progress: dict[str, Any], steps: Sequence[tuple[str, str]], log_end: str = ""
) -> None:
    """A line on the whole, the best trial, and what to do next: (label, command) each.

    `log_end` is the end of the driver's log, where the driver did not say itself what went wrong.
    """
    out = console()
    counts = progress.get("trials", {})
    endings = ", ".join(f"{counts[e]} {e}" for e in ("completed", "stopped", "diverged", "failed") if counts.get(e))
    reason = f" ({progress['reason']})" if progress.get("reason") else ""
    out.print(
        f"{sweep_id} {outcome}{reason}: {ended(progress)} trials"
        f"{f' ({endings})' if endings else ''}, {progress.get('epochs', 0)} epochs, "
        f"{duration(progress.get('elapsed_s')) or '0 s'}",
        markup=False,
    )
    if progress.get("best"):
        out.print(_best_table(progress))
    if log_end:
        out.print(f"The driver ended without a word. The end of its log:\n{log_end}", markup=False)
    for label, text in steps:
        out.print(f"{label:<9} {text}", markup=False, soft_wrap=True)


def _best_table(progress: dict[str, Any]) -> Table:
    from rich.table import Table

    best, metric = progress["best"], progress["metric"]
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("best", f"{metric['name']} {number(best['value'])} ({metric['goal']})", style="bold")
    table.add_row("trial", f"{best['trial']}, epoch {best['epoch']}")
    for name, value in best["params"].items():
        table.add_row(name, number(value))
    return table
