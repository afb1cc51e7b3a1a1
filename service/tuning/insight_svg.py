"""Draws a sweep's importance as one SVG picture, for MLflow's artifact viewer and for papers; no library, no script."""

from __future__ import annotations

from typing import Any, Final
from xml.sax.saxutils import escape

_WIDTH, _LEFT, _RIGHT, _ROW, _TOP = 760, 230, 690, 28, 56
_MOST_ROWS: Final = 20
_MOST_PAIRS: Final = 5
_BLUE, _INK, _SOFT = "#2563eb", "#171b24", "#5c6675"
_FONT: Final = "system-ui, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
_LONGEST_NAME: Final = 34


def importance_svg(found: dict[str, Any], title: str) -> str:
    """The picture of an `insight` object: for each objective a bar per parameter, then its interactions in words."""
    objectives = list(dict.fromkeys(entry["objective"] for entry in found["importance"]))
    blocks, height = [], 12
    for name in objectives or [""]:
        block, used = _block(found, name, title)
        blocks.append(f'<g transform="translate(0,{height})">{block}</g>')
        height += used
    size = f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
    ground = '<rect width="100%" height="100%" fill="#ffffff"/>'
    drawn = ground + "".join(blocks)
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{_FONT}" font-size="12">{drawn}</svg>\n'


def _block(found: dict[str, Any], objective: str, title: str) -> tuple[str, int]:
    """(the part of one objective, its height)."""
    rows = [entry for entry in found["importance"] if entry["objective"] == objective][:_MOST_ROWS]
    top = max([0.05, *(row["total_high"] for row in rows)])
    head = f"{title}: importance for {objective}" if objective else f"{title}: importance"
    parts = [f'<g font-size="15">{_text(16, 18, head, is_strong=True)}</g>']
    hint = "share of the trials' order: full colour by itself, light with another; 90 % interval"
    parts.append(_text(16, 36, hint if rows else "too few trials to tell", colour=_SOFT))
    parts += [_row(row, _TOP + i * _ROW, top) for i, row in enumerate(rows)]
    bottom = _TOP + len(rows) * _ROW
    pairs = [entry for entry in found["interactions"] if entry["objective"] == objective][:_MOST_PAIRS]
    for i, pair in enumerate(pairs):
        text = f"{' with '.join(pair['names'])}: {pair['share']:.0%} ({pair['low']:.0%} to {pair['high']:.0%})"
        parts.append(_text(16, bottom + 16 + i * 18, text, colour=_SOFT))
    return "".join(parts), bottom + 28 + len(pairs) * 18


def _row(row: dict[str, Any], y: int, top: float) -> str:
    def at(share: float) -> float:
        return _LEFT + (_RIGHT - _LEFT) * share / top

    name = row["name"] if len(row["name"]) <= _LONGEST_NAME else "…" + row["name"][-_LONGEST_NAME + 1 :]
    low, high, middle = at(row["total_low"]), at(row["total_high"]), y + 9
    whisker = f"M{low:.1f},{middle}H{high:.1f}M{low:.1f},{middle - 4}v8M{high:.1f},{middle - 4}v8"
    return (
        _text(_LEFT - 10, y + 13, name, anchor="end")
        + _bar(y, at(row["total"]) - _LEFT, 0.35)
        + _bar(y, at(min(row["share"], row["total"])) - _LEFT, 1.0)
        + f'<path d="{whisker}" stroke="{_INK}" stroke-opacity="0.6" fill="none"/>'
        + _text(max(high, at(row["total"])) + 8, y + 13, f"{row['total']:.1%}", is_strong=True)
    )


def _bar(y: int, width: float, opacity: float) -> str:
    return f'<rect x="{_LEFT}" y="{y}" width="{width:.1f}" height="18" rx="3" fill="{_BLUE}" fill-opacity="{opacity}"/>'


def _text(x: float, y: int, text: str, *, colour: str = _INK, anchor: str = "start", is_strong: bool = False) -> str:
    style = f'x="{x:.1f}" y="{y}" fill="{colour}" text-anchor="{anchor}"'
    return f'<text {style} font-weight="{600 if is_strong else 400}">{escape(text)}</text>'
