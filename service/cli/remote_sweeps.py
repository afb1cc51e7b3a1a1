"""Sweeps of a server in the same words and pictures as those of this machine."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from service.api.models import Sweep, SweepSummary
from service.client import Client
from service.errors import Fault, ServerError, SpecError, SweepNotFoundError
from service.records import State
from service.views.ending import print_ending
from service.views.progress import ProgressView, ended, view

STANDING_S: Final = 5.0  # between two looks at why a sweep waits
_SPAN: Final = re.compile(r"\d+ (s|min|h)\b")  # that counts down is no news
AWAY_S: Final = 3600.0  # that a server may be away while a sweep on it is watched
EXIT_CODES: Final = {State.COMPLETED: 0, State.FAILED: 1, State.CANCELLED: 3, State.PAUSED: 3}
_LOG_END_BYTES: Final = 3000
_MOST_TRIALS: Final = 10_000
_NO_LETTER: Final = "\N{REPLACEMENT CHARACTER}"


def the_sweep(client: Client, text: str | None) -> str:
    """The id of the sweep that `text` means; None for the caller's newest. SweepNotFoundError."""
    return client.newest().id if text is None else client.sweep(text).id


def printable(data: Any) -> Any:  # noqa: ANN401  # any JSON value
    """`data` without characters that would steer a terminal: others have written it."""
    if isinstance(data, str):
        return data if data.isprintable() else "".join(c if c.isprintable() else _NO_LETTER for c in data)
    if isinstance(data, dict):
        return {printable(key): printable(value) for key, value in data.items()}
    return [printable(item) for item in data] if isinstance(data, list) else data


def row(found: SweepSummary) -> dict[str, Any]:
    """What `overview.rows` has for a sweep of this machine."""
    said = printable(found.progress)
    best = said.get("best") or {}
    return {
        "sweep_id": found.id,
        "name": found.name,
        "state": str(found.state),
        "trials_ended": ended(said),
        "trials_total": said.get("trials", {}).get("total"),
        "metric": (said.get("metric") or {}).get("name"),
        "best": best.get("value"),
        "age_s": round(time.time() - found.created_at, 1),
        "project": found.project,
        "owner": found.owner,
    }


def details(client: Client, text: str | None, *, with_insight: bool = False) -> dict[str, Any]:
    """What `overview.details` has for a sweep of this machine."""
    sweep = client.sweep(the_sweep(client, text))
    found = printable(client.trials(sweep.id, most=_MOST_TRIALS, insight=with_insight).model_dump(mode="json"))
    told = {"warm_start": found.pop("warm_start", None) or None, "mlflow": sweep.mlflow_url}
    known = {name: value for name, value in told.items() if value is not None}
    none_yet = {"race": None, "held_out": None}  # while it has no record
    own = {"state": str(sweep.state), "progress": progress(sweep), "server": client.url}
    return {**none_yet, **found, **known, **own}


def best_config(client: Client, text: str | None) -> str:
    """The best trial's LightningCLI config, as YAML. SweepNotFoundError where no trial has reported yet."""
    sweep_id = the_sweep(client, text)
    config = client.best(sweep_id).config
    if config is None:
        msg = f"no trial of {sweep_id} has reported yet; watch it with `tuneyard watch {sweep_id}`"
        raise SweepNotFoundError(msg)
    return config


def progress(sweep: SweepSummary) -> dict[str, Any]:
    """How a sweep stands, as its driver and the server say together: what `progress.json` has on this machine."""
    reason = sweep.reason or sweep.progress.get("reason", "")
    return {**printable(sweep.progress), "sweep_id": sweep.id, "state": str(sweep.state), "reason": printable(reason)}


def standing(client: Client, sweep_id: str) -> str:
    """Where a sweep is in the queue of its server, and why it waits."""
    entry = next((entry for entry in client.queue() if entry.sweep_id == sweep_id), None)
    if entry is None or entry.state is not State.QUEUED:
        return f"on {client.url}"
    place = "in the queue" if entry.position is None else f"number {entry.position} in the queue"
    return f"on {client.url}, {place}" + (f": {printable(entry.reason)}" if entry.reason else "")


def follow(client: Client, sweep_id: str, *, as_json: bool, quiet: bool = False) -> int:
    """Show a sweep until it is over or paused; returns the exit code that `tuneyard run` would have.

    An interrupt leaves it running. `quiet` shows only what came of it.
    """
    shown = None if quiet else view(as_json=as_json)
    try:
        over = client.wait(sweep_id, watch=_shower(client, sweep_id, shown), away_s=AWAY_S)
    except KeyboardInterrupt:
        sys.stderr.write(f"{sweep_id} goes on; look again with: tuneyard watch {sweep_id}\n")
        return 130
    finally:
        if shown is not None:
            shown.close()
    return _conclude(client, over, as_json=as_json)


def _shower(client: Client, sweep_id: str, shown: ProgressView | None) -> Callable[[Sweep], None]:
    """Shows each look at the sweep and, while it waits, whenever that changes, why."""
    told, ask_at = "", 0.0

    def show(found: Sweep) -> None:
        nonlocal told, ask_at
        if shown is None:
            return
        if not told or (found.state is State.QUEUED and time.monotonic() >= ask_at):
            ask_at = time.monotonic() + STANDING_S
            with suppress(ServerError):  # asked again at a later look
                before, told = told, standing(client, sweep_id)
                if _SPAN.sub("", told) != _SPAN.sub("", before):
                    shown.note(f"{sweep_id} {told}")
        shown.update(progress(found))

    return show


def _conclude(client: Client, over: Sweep, *, as_json: bool) -> int:
    faults = over.progress.get("faults")
    if over.state is State.FAILED and faults:  # what the first worker found wrong with the file
        raise SpecError([Fault(**fault) for fault in faults])
    if as_json:
        sys.stdout.write(json.dumps({"event": "end", **conclusion(client, over)}) + "\n")
        return EXIT_CODES[over.state]
    is_silent = over.state is State.FAILED and not progress(over)["reason"]
    log_end = _log_end(client, over.id) if is_silent else ""
    print_ending(over.id, str(over.state), progress(over), _next_steps(over), log_end)
    return EXIT_CODES[over.state]


def conclusion(client: Client, over: Sweep) -> dict[str, Any]:
    """The end as an object: state, best trial, and where it is."""
    told = {name: over.progress.get(name) for name in ("metric", "best", "trials", "epochs", "elapsed_s")}
    state, reason = str(over.state), progress(over)["reason"]
    place = {"server": client.url, "project": over.project, "mlflow": over.mlflow_url}
    return {"sweep_id": over.id, "state": state, "reason": reason, **told, **place}


def _log_end(client: Client, sweep_id: str) -> str:
    lines = client.logs(sweep_id, offset=-_LOG_END_BYTES).text.strip().splitlines()
    return "\n".join(map(printable, lines))


def _next_steps(over: Sweep) -> list[tuple[str, str]]:
    steps = [("resume", f"tuneyard resume {over.id}")] if over.state is State.PAUSED else []
    if over.progress.get("best"):
        steps.append(("config", f"tuneyard best {over.id}  (plain LightningCLI: trains the best trial again)"))
        steps.append(("report", f"tuneyard report {over.id} --open"))
    steps.append(("trials", f"tuneyard show {over.id}"))
    if over.state is State.FAILED:
        steps.append(("log", f"tuneyard logs {over.id}"))
    return [*steps, *([("MLflow", over.mlflow_url)] if over.mlflow_url else [])]
