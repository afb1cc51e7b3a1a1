"""Draws a report as one HTML page that needs nothing else: no network, no library, about 50 kB beside its data.

MLflow shows it in a sandboxed frame (`allow-scripts` only), so the page uses no storage, no cookies and no downloads.
"""

from __future__ import annotations

import html
import json
import re
from importlib.resources import files
from typing import Any, Final

from service.tuning.report import report_text

_SCRIPTS: Final = ("base.js", "charts.js", "insight.js", "parallel.js", "race.js", "held_out.js", "page.js")
_HOLE: Final = re.compile(r"\{\{(\w+)\}\}")


def render(report: dict[str, Any], best_yaml: str | None = None) -> str:
    """The page of a `build_report` object; `best_yaml` is shown, with a button that copies it."""
    folder = files("service.tuning") / "report_page"
    data = json.dumps({**report, "best_yaml": best_yaml}, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    parts = {
        "title": html.escape(f"{report['sweep']['name']} · Tuneyard"),
        "text": html.escape(report_text(report)),
        "style": (folder / "page.css").read_text(encoding="utf-8"),
        "script": "\n".join((folder / name).read_text(encoding="utf-8") for name in _SCRIPTS),
        "data": data.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"),
    }
    page = (folder / "page.html").read_text(encoding="utf-8")
    return _HOLE.sub(lambda hole: parts[hole[1]], page)
