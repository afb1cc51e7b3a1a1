"""Shows several sweeps side by side: a table, and how the best value of each came about as a plot in the terminal."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from service.views.progress import console, duration, number, parameters

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

By = Literal["trials", "time"]
_WIDTH, _HEIGHT = 64, 16  # characters
_WIDE: Final = 20.0  # times the least value, from which on the scale is logarithmic
_MARKS: Final = "●▲■◆○△□◇"
_COLOURS: Final = ("#2563eb", "#d97706", "#059669", "#dc2626", "#7c3aed", "#0891b2", "#be185d", "#4d7c0f")
_AXES: Final = {"trials": "trials ended", "time": "seconds since the first trial began"}


def compared(home: Path, sweep_ids: Sequence[str]) -> list[dict[str, Any]]:
    """What a server's `/compare` answers, for sweeps under the data folder."""
    from service.spec.sweep_spec import SweepSpec
    from service.sweeps.folders import Sweep, sweeps_folder
    from service.sweeps.launch import state
    from service.views.reader import Reader

    reader, found = Reader(home), []
    for sweep_id in sweep_ids:
        sweep = Sweep(sweeps_folder(home) / sweep_id)
        progress = sweep.progress() or {}
        objective = SweepSpec.from_dict(sweep.spec()).objectives.objectives[0]
        curve = reader.answer({"what": "curve", "sweep_id": sweep_id})
        head = {"sweep_id": sweep_id, "name": sweep.name, "state": state(home, sweep)}
        metric = {"name": objective.name, "goal": str(objective.goal)}
        found.append({**head, "metric": metric, "best": progress.get("best"), **curve})
    return found


def table(found: Sequence[dict[str, Any]]) -> Table:
    """One row for each sweep."""
    from rich.markup import escape
    from rich.table import Table

    shown = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("", "sweep", "state", "search", "trials", "epochs", "time", "metric", "best", "with"):
        shown.add_column(column, no_wrap=column in ("sweep", "best"))
    for i, entry in enumerate(found):
        best, metric = entry.get("best") or {}, entry.get("metric") or {}
        value = "" if best.get("value") is None else number(best["value"])
        search, trials = f"{entry['search']}+{entry['scheduler']}", str(sum(entry["trials"].values()))
        texts = (entry["sweep_id"], str(entry["state"]), search, trials, str(entry["epochs"]),
                 duration(entry["elapsed_s"]), metric.get("name", ""), value)  # fmt: skip
        shown.add_row(_mark(i), *map(escape, texts), escape(parameters(best.get("params", {}))))
    return shown


def print_comparison(found: Sequence[dict[str, Any]], by: By) -> None:
    """The table, then the plot of those that have the first one's metric."""
    out = console()
    out.print(table(found))
    drawn = plot(found, by)
    if drawn is not None:
        out.print(drawn)
    others = [entry["sweep_id"] for entry in found if entry["metric"] != found[0]["metric"]]
    if others:
        out.print(f"not in the plot, since they have another metric: {', '.join(others)}", markup=False)


def plot(found: Sequence[dict[str, Any]], by: By) -> Text | None:
    """The best value so far, as steps of characters; None while no sweep of the first one's metric has a value."""
    from rich.text import Text

    curves = _curves(found, by)
    if not curves:
        return None
    right, scale = _extent(curves)
    cells: dict[tuple[int, int], int] = {}
    for i, points in curves.items():
        for column in range(_WIDTH):
            value = _value_at(points, right * (column + 0.5) / _WIDTH)
            if value is not None:
                cells[column, round(scale.share_below_top(value) * (_HEIGHT - 1))] = i
    label = [number(scale.high), number(scale.low)]
    text, margin = Text(f"{_heading(found, scale)}\n", style="bold"), max(map(len, label))
    for row in range(_HEIGHT):
        edge = label[0] if row == 0 else label[1] if row == _HEIGHT - 1 else ""
        text.append(f"{edge:>{margin}} │", style="dim")
        for column in range(_WIDTH):
            owner = cells.get((column, row), -1)
            text.append(*((" ", "") if owner < 0 else (_mark(owner), _COLOURS[owner % len(_COLOURS)])))
        text.append("\n")
    ends = f"{'':>{margin}} 0{number(float(right)):>{_WIDTH}}"
    return text.append(f"{'':>{margin}} └{'─' * _WIDTH}\n{ends}  {_AXES[by]}", style="dim")


def page(found: Sequence[dict[str, Any]], by: By) -> str:
    """The same as one HTML page that needs nothing else."""
    rows = []
    for i, entry in enumerate(found):
        best, metric = entry.get("best") or {}, entry.get("metric") or {}
        value = "" if best.get("value") is None else number(best["value"])
        search, params = f"{entry['search']}+{entry['scheduler']}", parameters(best.get("params", {}))
        texts = (entry["sweep_id"], entry["state"], search, entry["epochs"], duration(entry["elapsed_s"]),
                 metric.get("name", ""), value, params)  # fmt: skip
        cells = "".join(f"<td>{html.escape(str(text))}</td>" for text in texts)
        rows.append(f'<tr><td style="color:{_COLOURS[i % len(_COLOURS)]}">{_mark(i)}</td>{cells}</tr>')
    names = ("", "sweep", "state", "search", "epochs", "time", "metric", "best", "with")
    head = "".join(f"<th>{name}</th>" for name in names)
    style = "body{font:14px system-ui,sans-serif;margin:2em}td,th{text-align:left;padding:.2em 1em .2em 0}"
    title, drawn = "Sweeps side by side", f"<table><tr>{head}</tr>{''.join(rows)}</table>{_picture(found, by)}"
    top = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{style}</style>'
    return f"{top}<h1>{title}</h1>{drawn}</html>\n"


def _picture(found: Sequence[dict[str, Any]], by: By) -> str:
    curves = _curves(found, by)
    if not curves:
        return "<p>no values yet</p>"
    right, scale = _extent(curves)
    left, width, height = 70, 760, 340

    def at(x: float, value: float) -> str:
        return f"{left + x / right * (width - left - 10):.1f},{20 + scale.share_below_top(value) * (height - 60):.1f}"

    lines = []
    for i, points in curves.items():
        steps = [at(*points[0])]
        for before, after in pairwise(points):
            steps += [at(after[0], before[1]), at(*after)]
        colour = _COLOURS[i % len(_COLOURS)]
        path = " ".join(steps)
        lines.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
    words = [
        (left, 14, _heading(found, scale)),
        (5, 26, number(scale.high)),
        (5, height - 36, number(scale.low)),
        (left, height - 16, f"0 to {number(float(right))} {_AXES[by]}"),
    ]
    lines += [f'<text x="{x}" y="{y}" font-size="12">{html.escape(said)}</text>' for x, y, said in words]
    drawn = "".join(lines)
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}">{drawn}</svg>'


def _mark(i: int) -> str:
    return _MARKS[i % len(_MARKS)]


def _curves(found: Sequence[dict[str, Any]], by: By) -> dict[int, list[tuple[float, float]]]:
    """For each sweep of the first one's metric that has values, by its place: (x, best so far)."""
    column = 0 if by == "trials" else 1
    curves = {
        i: [(float(point[column]), float(point[2])) for point in entry["best_over_time"] if math.isfinite(point[2])]
        for i, entry in enumerate(found)
        if entry["metric"] == found[0]["metric"]
    }
    ends = {i: _end(found[i], by, points) for i, points in curves.items() if points}
    return {i: [*curves[i], (end, curves[i][-1][1])] for i, end in ends.items()}


def _end(entry: dict[str, Any], by: By, points: list[tuple[float, float]]) -> float:
    """How far the sweep has come, which is further than its last improvement."""
    over = sum(entry["trials"].get(status, 0) for status in ("completed", "stopped", "diverged", "failed"))
    return max(points[-1][0], over if by == "trials" else entry["elapsed_s"] or 0.0)


@dataclass(frozen=True, slots=True)
class _Scale:
    """Where values stand between the least and the largest."""

    low: float
    high: float

    @property
    def is_logarithmic(self) -> bool:
        """A loss that falls by orders of magnitude shows nothing but its first fall otherwise."""
        return self.low > 0 and self.high / self.low > _WIDE

    def share_below_top(self, value: float) -> float:
        """0 for the largest value, 1 for the least."""
        if self.is_logarithmic:
            return math.log(self.high / value) / math.log(self.high / self.low)
        return (self.high - value) / (self.high - self.low)


def _heading(found: Sequence[dict[str, Any]], scale: _Scale) -> str:
    metric, how = found[0]["metric"], ", logarithmic" if scale.is_logarithmic else ""
    return f"best {metric['name']} so far ({metric['goal']}{how})"


def _extent(curves: dict[int, list[tuple[float, float]]]) -> tuple[float, _Scale]:
    """The largest x, and the values' scale; neither of no width."""
    xs = [x for points in curves.values() for x, _ in points]
    values = [value for points in curves.values() for _, value in points]
    low, high = min(values), max(values)
    margin = 0.0 if high > low else abs(high) * 0.05 or 1.0
    return max(*xs, 1e-9), _Scale(low - margin, high + margin)


def _value_at(points: list[tuple[float, float]], x: float) -> float | None:
    """The best value at `x`; None before the first, and behind the end of the sweep."""
    before = [value for at, value in points if at <= x]
    return before[-1] if before and x <= points[-1][0] else None
