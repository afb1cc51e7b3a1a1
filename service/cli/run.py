"""Commands that have a sweep run: run, resume, watch, stop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service import settings
from service.cli.place import Place, spread
from service.cli.text import Overrides, SweepArgument, examples


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `app`."""
    app.command(
        epilog=examples(
            "tuneyard run sweep.yaml",
            "tuneyard run sweep.yaml --set budget.max_trials=20 --set search.name=tpe",
            "tuneyard run sweep.yaml --name second-try --json > progress.jsonl",
            "tuneyard run sweep.yaml --detach && tuneyard watch",
            "tuneyard run sweep.yaml --set search.warm_start=auto",
        )
    )(run)
    app.command(epilog=examples("tuneyard resume", "tuneyard resume digits-20261122-0a1b2c"))(spread(resume))
    app.command(epilog=examples("tuneyard watch", "tuneyard watch digits --json"))(spread(watch))
    app.command(epilog=examples("tuneyard stop digits"))(spread(stop))


Json = Annotated[bool, typer.Option("--json", help="Print one JSON object a change, and a last one.")]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="Print the sweep's id and return while it runs.")]
Signatures = Annotated[
    bool, typer.Option("--signatures/--no-signatures", help="Check parameter paths against the real signatures first.")
]


def run(
    sweep: Annotated[Path, typer.Argument(metavar="SWEEP.YAML", help="The sweep file.")],
    overrides: Overrides = None,
    name: Annotated[str | None, typer.Option(help="Call the sweep this instead.")] = None,
    as_json: Json = False,
    signatures: Signatures = True,
    detach: Detach = False,
) -> None:
    """Run a sweep and show how it goes.

    Ctrl-C stops cleanly: every trial's state is kept, and `tuneyard resume` goes on. A second Ctrl-C quits at once.
    """
    from service.cli.follow import follow
    from service.sweeps.launch import start
    from service.sweeps.past_sweeps import with_past
    from service.sweeps.submission import prepare

    changes = [*(overrides or ()), *([f"name={name}"] if name else ())]
    started = start(settings.home(), *with_past(settings.home(), prepare(sweep, changes, signatures=signatures)))
    if detach:
        typer.echo(started.id)
        return
    raise typer.Exit(follow(settings.home(), started, as_json=as_json))


def resume(place: Place, sweep: SweepArgument = None, as_json: Json = False, detach: Detach = False) -> None:
    """Go on with a sweep that was stopped, paused or cut off.

    It goes on from its record; the newest sweep where none is named.
    """
    with place.opened() as client:
        if client is not None:
            from service.cli.remote_sweeps import follow as follow_remote
            from service.cli.remote_sweeps import the_sweep

            resumed = client.resume(the_sweep(client, sweep))
            if detach:
                typer.echo(resumed.id)
                return
            raise typer.Exit(follow_remote(client, resumed.id, as_json=as_json))
    from service.cli.follow import follow
    from service.sweeps.folders import find
    from service.sweeps.launch import resume as resume_sweep

    found = find(settings.home(), sweep)
    resume_sweep(settings.home(), found)
    if detach:
        typer.echo(found.id)
        return
    raise typer.Exit(follow(settings.home(), found, as_json=as_json))


def watch(place: Place, sweep: SweepArgument = None, as_json: Json = False) -> None:
    """Show how a running sweep goes.

    Ctrl-C only ends the watching.
    """
    with place.opened() as client:
        if client is not None:
            from service.cli.remote_sweeps import follow, the_sweep

            raise typer.Exit(follow(client, the_sweep(client, sweep), as_json=as_json))
    from service.cli.follow import look_on
    from service.sweeps.folders import find

    raise typer.Exit(look_on(settings.home(), find(settings.home(), sweep), as_json=as_json))


def stop(
    place: Place,
    sweep: SweepArgument = None,
    wait_s: Annotated[float, typer.Option("--wait", help="Seconds for a clean end before it is killed.")] = 60.0,
) -> None:
    """Stop a running sweep cleanly; on a server, pause it.

    `tuneyard resume` goes on with it.
    """
    with place.opened() as client:
        if client is not None:
            from service.cli.remote_sweeps import the_sweep

            paused = client.pause(the_sweep(client, sweep))
            typer.echo(f"{paused.id} pauses; go on with: tuneyard resume {paused.id}")
            return
    from service.sweeps.folders import find
    from service.sweeps.launch import is_running
    from service.sweeps.launch import stop as stop_sweep

    found = find(settings.home(), sweep)
    if not is_running(settings.home(), found):
        typer.echo(f"{found.id} is not running")
        return
    stop_sweep(settings.home(), found, wait_s=wait_s)
    typer.echo(f"{found.id} stopped; go on with: tuneyard resume {found.id}")
