"""Commands that look closer: logs, compare."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service import settings
from service.cli.place import Place, spread
from service.cli.text import SweepArgument, complete_sweep, examples
from service.errors import Fault, SpecError, SweepNotFoundError

if TYPE_CHECKING:
    from service.client import Client
    from service.sweeps.folders import Sweep

_FEWEST_COMPARED = 2


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `app`."""
    app.command(epilog=examples("tuneyard logs", "tuneyard logs digits -f", "tuneyard logs digits --trial 7"))(
        spread(logs)
    )
    compares = (
        "tuneyard compare digits digits-wide",
        "tuneyard compare digits digits-wide --by time --output both.html",
    )
    app.command(epilog=examples(*compares))(spread(compare))


def logs(
    place: Place,
    sweep: SweepArgument = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the sweep is over.")] = False,
    trial: Annotated[int | None, typer.Option(help="The log of one trial instead of the driver's.", min=0)] = None,
) -> None:
    """Print what a sweep's driver wrote, or one trial.

    Ctrl-C only ends the following.
    """
    with place.opened() as client:
        pieces = (
            _local_log(sweep, trial, follow=follow) if client is None else _log(client, sweep, trial, follow=follow)
        )
        try:
            for text in pieces:
                sys.stdout.write(text)
                sys.stdout.flush()
        except KeyboardInterrupt:
            raise typer.Exit(130) from None


def _log(client: Client, text: str | None, trial: int | None, *, follow: bool) -> Iterator[str]:
    from service.cli.remote_sweeps import AWAY_S, the_sweep

    sweep_id = the_sweep(client, text)
    if follow:
        yield from client.follow_logs(sweep_id, trial=trial, away_s=AWAY_S)
        return
    offset = 0
    while True:
        piece = client.logs(sweep_id, trial=trial, offset=offset)
        yield piece.text
        if piece.is_complete or not piece.text:
            return
        offset = piece.next_offset


def _local_log(text: str | None, trial: int | None, *, follow: bool) -> Iterator[str]:
    from service.sweeps.folders import find
    from service.sweeps.launch import is_running
    from service.tuning.sweep_folder import DRIVER_LOG, TRIAL_LOG
    from service.views.log import grown

    home = settings.home()
    sweep = find(home, text)
    path = sweep.path(DRIVER_LOG if trial is None else TRIAL_LOG.format(trial=trial))
    if not (follow or path.exists()):
        raise SweepNotFoundError(_no_log(sweep, trial))
    return grown(path, lambda: not (follow and is_running(home, sweep)))


def _no_log(sweep: Sweep, trial: int | None) -> str:
    whose = sweep.id if trial is None else f"trial {trial} of {sweep.id}"
    return f"{whose} has no log; `tuneyard show {sweep.id}` shows its trials"


class Axis(StrEnum):
    """What a plot goes along."""

    TRIALS = "trials"
    TIME = "time"


def compare(
    place: Place,
    sweeps: Annotated[
        list[str], typer.Argument(metavar="SWEEP…", help="Two sweeps or more", autocompletion=complete_sweep)
    ],
    by: Annotated[Axis, typer.Option(help="What the plot goes along.")] = Axis.TRIALS,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write a page with a picture here.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Show several sweeps side by side: a table, and a plot of how the best value of each came about."""
    from service.views.comparison import compared, page, print_comparison

    if len(sweeps) < _FEWEST_COMPARED:
        allowed = "two sweeps or more; `tuneyard list` shows them"
        raise SpecError([Fault("names one sweep", "compare", given=sweeps[0], allowed=allowed)])
    with place.opened() as client:
        if client is None:
            from service.sweeps.folders import find

            found = compared(settings.home(), [find(settings.home(), text).id for text in sweeps])
        else:
            from service.cli.remote_sweeps import printable

            found = printable(client.compare(sweeps).model_dump(mode="json")["sweeps"])
    if output is not None:
        output.write_text(page(found, by.value), encoding="utf-8")
        typer.echo(f"{output}")
    elif as_json:
        typer.echo(json.dumps(found, indent=1))
    else:
        print_comparison(found, by.value)
