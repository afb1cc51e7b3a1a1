"""Prints what a sweep teaches about its space: importance as bars, interactions, early epochs, advice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from service.views.progress import console, number, short_names

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

_BAR: Final = 30  # characters
_LEAST_SHOWN: Final = 0.005


def print_insight(found: dict[str, Any], metric: str) -> None:
    """An `insight` object for a person; with several objectives, each after the other."""
    out = console()
    objectives = list(dict.fromkeys(entry["objective"] for entry in found["importance"]))
    if not objectives:
        out.print("importance: too few trials to tell; eight with results are needed")
    names = short_names(list(dict.fromkeys(entry["name"] for entry in found["importance"])))
    for objective in objectives:
        mine = {
            key: [entry for entry in found[key] if entry["objective"] == objective]
            for key in ("importance", "explained", "interactions", "dependence", "surfaces")
        }
        out.print(f"importance for {objective}", style="bold", markup=False)
        out.print(_bars(mine["importance"], names))
        for text in _sentences(mine, names):
            out.print(text, markup=False, soft_wrap=True)
    _print_early(found["early_rungs"], metric)


def _bars(rows: list[dict[str, Any]], names: dict[str, str]) -> Table:
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("parameter", "share", "90 % interval", "by itself", "trials", ""):
        table.add_column(
            column, no_wrap=True, justify="right" if column in ("share", "by itself", "trials") else "left"
        )
    top = max(row["total"] for row in rows) or 1.0
    for row in rows:
        interval = f"{percent(row['total_low'])} to {percent(row['total_high'])}"
        cells = (percent(row["total"]), interval, percent(row["share"]), str(row["trials"]))
        table.add_row(names[row["name"]], *cells, _bar(row, top))
    return table


def _bar(row: dict[str, Any], top: float) -> Text:
    """What a parameter does by itself in full blocks, what it does with others in light ones."""
    from rich.text import Text

    whole = round(_BAR * row["total"] / top)
    main = min(whole, round(_BAR * row["share"] / top))
    return Text("█" * main + "░" * (whole - main), style="blue")


def _sentences(found: dict[str, list[dict[str, Any]]], names: dict[str, str]) -> list[str]:
    lines = []
    for pair in found["interactions"]:
        first, second = (names[name] for name in pair["names"])
        interval = f"90 % interval {percent(pair['low'])} to {percent(pair['high'])}"
        lines.append(f"together beyond each alone: {first} with {second} {percent(pair['share'])} ({interval})")
    if not found["interactions"]:
        lines.append("no interaction of two parameters stands out from chance")
    for curve in found["dependence"]:
        best = max(curve["points"], key=lambda point: point[1])
        beats = f"beats {percent(best[1])} of the trials ({percent(best[2])} to {percent(best[3])})"
        lines.append(f"best {names[curve['name']]} on average over the rest: {number(best[0])}, {beats}")
    lines += [_best_together(surface, names) for surface in found["surfaces"]]
    whole = found["explained"][0]
    interval = f"{percent(whole['low'])} to {percent(whole['high'])}"
    order = f"the order that {whole['trials']} trials would have at epoch {whole['epoch']}"
    lines.append(f"all of it explains {percent(whole['share'])} of {order} ({interval})")
    return lines


def _best_together(surface: dict[str, Any], names: dict[str, str]) -> str:
    spots = [(mean, i, j) for i, row in enumerate(surface["mean"]) for j, mean in enumerate(row)]
    mean, *at = max(spots)
    parts = [
        f"{names[name]} {number(values[k])}"
        for name, values, k in zip(surface["names"], surface["values"], at, strict=True)
    ]
    return f"best together: {' with '.join(parts)}, beats {percent(mean)} of the trials"


def _print_early(early: dict[str, Any], metric: str) -> None:
    from rich.table import Table

    out = console()
    if early["looks"]:
        out.print(f"what early epochs foretold of {metric}", style="bold", markup=False)
        table = Table(box=None, header_style="bold", pad_edge=False)
        columns = (
            "epoch",
            "trials",
            "winner's place",
            "go on",
            "agrees with next",
            "with the last",
            "stops later best",
        )
        for column in columns:
            table.add_column(column, no_wrap=True)
        for look in early["looks"]:
            place = "" if look["winner_place"] is None else str(look["winner_place"])
            agrees = [_agreement(look["next"]), _agreement(look["last"])]
            table.add_row(
                str(look["epoch"]), str(look["trials"]), place, str(look["kept"]), *agrees, _risk(look["risk"])
            )
        out.print(table)
        out.print("agreement: rank correlation (90 % interval), mended for the trials that were stopped in between")
    out.print(early["advice"] or early["no_advice"], markup=False, soft_wrap=True)


def _agreement(found: dict[str, Any] | None) -> str:
    return "" if found is None else f"{found['mended']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


def _risk(found: dict[str, Any] | None) -> str:
    if found is None:
        return ""
    return f"{percent(found['chance'])} ({percent(found['low'])} to {percent(found['high'])})"


def percent(share: float) -> str:
    """A share as a person reads it."""
    return f"{share:.0%}" if share >= _LEAST_SHOWN else "<1%"
