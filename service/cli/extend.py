"""The command that gives a sweep more trials than it had: extend."""

from __future__ import annotations

from typing import Annotated

import typer

from service import settings
from service.cli.place import Place, spread
from service.cli.text import NamedSweep, examples


def register(app: typer.Typer) -> None:
    """Add the command of this file to `app`."""
    app.command(epilog=examples("tuneyard extend digits --max-trials 100"))(spread(extend))


def extend(
    place: Place,
    sweep: NamedSweep,
    max_trials: Annotated[int, typer.Option("--max-trials", help="Trials in all, with those that it has.", min=1)],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a change, and a last one.")] = False,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Print the sweep's id and return.")] = False,
) -> None:
    """Give a sweep more trials; one that is over goes on where it ended.

    Everything that it has learned counts. One that runs takes it up by itself.
    """
    with place.opened() as client:
        if client is not None:
            from service.cli.remote_sweeps import follow as follow_remote

            extended = client.extend(sweep, max_trials)
            if detach:
                typer.echo(extended.id)
                return
            raise typer.Exit(follow_remote(client, extended.id, as_json=as_json))
    from service.cli.follow import follow, look_on
    from service.sweeps.folders import find
    from service.sweeps.launch import extend as extend_sweep

    found = find(settings.home(), sweep)
    is_started = extend_sweep(settings.home(), found, max_trials)
    if detach:
        typer.echo(found.id)
        return
    raise typer.Exit((follow if is_started else look_on)(settings.home(), found, as_json=as_json))
