"""Shows a sweep while it runs: a live picture in a terminal, plain lines elsewhere, JSON objects for programs."""

from __future__ import annotations

import json
import math
import sys
import time
from typing import Any, Final, Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

OVER: Final = ("completed", "stopped", "diverged", "failed")
_MAX_RUNNING_SHOWN: Final = 12
_PLAIN_INTERVAL_S: Final = 1.0
_FILE_WIDTH: Final = 240


class ProgressView(Protocol):
    """Where the progress of one sweep goes."""

    def update(self, progress: dict[str, Any]) -> None:
        """Show the sweep's newest state."""

    def note(self, text: str) -> None:
        """Say something beside it."""

    def close(self) -> None:
        """Leave the terminal as it was."""


def view(*, as_json: bool) -> ProgressView:
    """The view that suits where standard output goes."""
    if as_json:
        return JsonView()
    return LiveView() if sys.stdout.isatty() else PlainView()


class LiveView:
    """One picture that changes in place."""

    def __init__(self) -> None:
        self._live = Live(Text("starting …"), console=Console(), refresh_per_second=4, transient=True)
        self._live.start()

    def update(self, progress: dict[str, Any]) -> None:
        """Redraw."""
        self._live.update(picture(progress))

    def note(self, text: str) -> None:
        """Print above the picture."""
        self._live.console.print(text, highlight=False)

    def close(self) -> None:
        """Take the picture away: the summary follows."""
        self._live.stop()


class PlainView:
    """A line whenever a trial has ended or the best has changed, at most one a second."""

    def __init__(self) -> None:
        self._last: tuple[object, ...] = ()
        self._next_at = 0.0

    def update(self, progress: dict[str, Any]) -> None:
        """Print a line where there is something new."""
        key = (progress.get("state"), ended(progress), (progress.get("best") or {}).get("value"))
        if key != self._last and time.monotonic() >= self._next_at:
            self._last, self._next_at = key, time.monotonic() + _PLAIN_INTERVAL_S
            self.note(line(progress))

    def note(self, text: str) -> None:
        """Print a line at once."""
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    def close(self) -> None:
        """Do nothing: every line stands."""


class JsonView:
    """Every change as one JSON object on one line of standard output; notes go to standard error."""

    def __init__(self) -> None:
        self._last = ""

    def update(self, progress: dict[str, Any]) -> None:
        """Print the object where it differs from the one before."""
        text = json.dumps({"event": "progress", **progress})
        if text != self._last:
            self._last = text
            sys.stdout.write(text + "\n")
            sys.stdout.flush()

    def note(self, text: str) -> None:
        """Keep standard output for objects."""
        sys.stderr.write(text + "\n")

    def close(self) -> None:
        """Do nothing: the last object is the caller's."""


def console() -> Console:
    """Standard output; wide where it is no terminal, since nothing there breaks lines for a person."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else _FILE_WIDTH)


def ended(progress: dict[str, Any]) -> int:
    """How many trials are over."""
    return sum(progress.get("trials", {}).get(ending, 0) for ending in OVER)


def line(progress: dict[str, Any]) -> str:
    """The state in one line of text."""
    trials = progress.get("trials", {})
    total = trials.get("total")
    counts = f"{ended(progress)}{'' if total is None else f'/{total}'} trials"
    parts = [progress.get("state", "starting"), counts, f"{trials.get('running', 0)} running"]
    if progress.get("fits"):
        parts.append(f"{progress['fits']['over']} fits")
    best = progress.get("best")
    if best:
        parts.append(f"best {best_values(progress)} (trial {best['trial']}{_of_front(best)})")
    parts.append(duration(progress.get("elapsed_s")))
    if progress.get("eta_s") is not None and progress.get("state") == "running":
        parts.append(f"{duration(progress['eta_s'])} left")
    return " · ".join(filter(None, parts))


def picture(progress: dict[str, Any]) -> RenderableType:
    """The state as a block of lines for a terminal."""
    rows: list[RenderableType] = [_header(progress), _bar(progress)]
    if progress.get("best"):
        rows.append(_best(progress))
    expected = outlook(progress)
    if expected is not None:
        rows.append(Text("next  ", style="dim").append(expected, style="default"))
    if progress.get("rungs"):
        rows.append(_rungs(progress))
    if progress.get("running"):
        rows.append(_running(progress))
    tracking = progress.get("tracking") or {}
    if tracking.get("lag"):
        rows.append(Text(f"MLflow is {tracking['lag']} records behind", style="yellow"))
    rows += [Text(warning, style="yellow") for warning in progress.get("warnings", [])]
    return Group(*rows)


def _header(progress: dict[str, Any]) -> Text:
    text = Text(str(progress.get("sweep_id", "")), style="bold")
    text.append(f"  {progress.get('state', 'starting')}", style="cyan")
    reason = progress.get("reason")
    return text.append(f"  {reason}", style="dim") if reason else text


def _bar(progress: dict[str, Any]) -> RenderableType:
    total = progress.get("trials", {}).get("total")
    row = Table.grid(padding=(0, 1))
    eta = progress.get("eta_s")
    left = "" if eta is None else f"about {duration(eta)} left"
    counts = f"{ended(progress)}/{total if total is not None else '?'} trials"
    row.add_row(
        ProgressBar(total=total or None, completed=ended(progress), width=40, pulse=total is None),
        counts, f"{progress.get('epochs', 0)} epochs", duration(progress.get("elapsed_s")), left,
    )  # fmt: skip
    return row


def _best(progress: dict[str, Any]) -> Text:
    best = progress["best"]
    text = Text("best  ", style="dim")
    text.append(best_values(progress), style="bold green")
    where = f"  trial {best['trial']}, epoch {best['epoch']}{_of_front(best)}  "
    return text.append(where + parameters(best["params"]))


def best_values(progress: dict[str, Any]) -> str:
    """The best trial's value, or with several objectives all of them."""
    best = progress["best"]
    values = best.get("values") or {progress["metric"]["name"]: best["value"]}
    error = best.get("error")  # of a mean over fits
    sure = "" if error is None else f" ± {error:.2g} over {best['fits']} fits"
    return ", ".join(f"{name} {number(value)}{sure}" for name, value in values.items())


def _of_front(best: dict[str, Any]) -> str:
    return f", the compromise of {best['front']} on the front" if best.get("front") else ""


def outlook(progress: dict[str, Any]) -> str | None:
    """What the next trial is expected to gain, in words; None while nobody knows."""
    gain, least = progress.get("expected_improvement"), progress.get("min_expected_improvement")
    if gain is None:
        return None
    unit = "spans of the front" if (progress.get("best") or {}).get("values") else progress["metric"]["name"]
    limit = "" if least is None else f"; the sweep ends below {number(float(least))}"
    return f"the next trial is expected to gain {gain:.2g} ({unit}){limit}"


def _rungs(progress: dict[str, Any]) -> Text:
    reached = "  ".join(f"epoch {rung['epoch']}: {rung['reached']}" for rung in progress["rungs"])
    return Text("rungs ", style="dim").append(reached, style="default")


def _running(progress: dict[str, Any]) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    for column in ("trial", "epoch", progress["metric"]["name"], "parameters"):
        table.add_column(column, no_wrap=True, overflow="ellipsis")
    for trial in progress["running"][:_MAX_RUNNING_SHOWN]:
        value = "" if trial["value"] is None else number(trial["value"])
        table.add_row(str(trial["trial"]), str(trial["epoch"]), value, parameters(trial["params"]))
    if len(progress["running"]) > _MAX_RUNNING_SHOWN:
        table.add_row("…", "", "", f"{len(progress['running']) - _MAX_RUNNING_SHOWN} more")
    return table


def parameters(params: dict[str, Any]) -> str:
    """Parameters in one line, each by the shortest end of its path that tells it from the others."""
    short = short_names(list(params))
    return " ".join(f"{short[name]}={number(value)}" for name, value in params.items())


def short_names(names: list[str]) -> dict[str, str]:
    """The shortest dotted end of each name that no other name shares."""
    short = {}
    for name in names:
        parts = name.split(".")
        ends = (".".join(parts[-count:]) for count in range(1, len(parts) + 1))
        short[name] = next((end for end in ends if sum(f".{n}".endswith(f".{end}") for n in names) == 1), name)
    return short


def number(value: object) -> str:
    """A value as a person reads it: four significant digits for reals."""
    return f"{value:.4g}" if isinstance(value, float) and math.isfinite(value) else str(value)


def duration(seconds: float | None) -> str:
    """Seconds as `42 s`, `3 min 05 s` or `2 h 07 min`."""
    if seconds is None:
        return ""
    whole = round(seconds)
    if whole < 60:  # noqa: PLR2004  # seconds in a minute
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left:02d} min" if hours else f"{minutes} min {rest:02d} s"
