"""The table of `show` for a sweep with folds or seeds: means, their errors, and which trial is likely the best."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from service.views.progress import number

if TYPE_CHECKING:
    from rich.table import Table


def race_table(race: dict[str, Any], metric: str, limit: int) -> Table:
    """The best `limit` configurations of `report_race.race_of`."""
    from rich.table import Table

    drawn = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("trial", f"mean {metric}", "± error", "fits", "best", "fresh seeds"):
        drawn.add_column(column, no_wrap=True)
    for entry in race["configurations"][:limit]:
        chance = "" if entry["probability_best"] is None else f"{entry['probability_best']:.0%}"
        cells = [
            "" if value is None else number(value) for value in (entry["mean"], entry["error"], entry["fresh_mean"])
        ]
        drawn.add_row(str(entry["trial"]), cells[0], cells[1], str(entry["fits"]), chance, cells[2])
    return drawn
