"""Commands that steer sweeps in a queue: queue, prioritize, pause, cancel, fork, delete."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from service import settings
from service.cli.place import Place, spread
from service.cli.text import NamedSweep, Overrides, examples

if TYPE_CHECKING:
    from service.api.models import QueueEntry


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `app`."""
    app.command(epilog=examples("tuneyard queue", "tuneyard queue --project vision --json"))(spread(queue))
    urgent = ("tuneyard prioritize digits 50", "tuneyard prioritize digits -10")
    minus = {"ignore_unknown_options": True}  # -10 is a number, not an option
    app.command(epilog=examples(*urgent), context_settings=minus)(spread(prioritize))
    app.command(epilog=examples("tuneyard pause digits"))(spread(pause))
    app.command(epilog=examples("tuneyard cancel digits-20261122-0a1b2c", "tuneyard cancel lost --force"))(
        spread(cancel)
    )
    forks = (
        "tuneyard fork digits --set parameters.optimizer.init_args.lr.max=0.5",
        "tuneyard fork digits --name digits-wide --set budget.max_trials=50 --fresh",
    )
    app.command(epilog=examples(*forks))(spread(fork))
    app.command(epilog=examples("tuneyard delete digits-20261122-0a1b2c --yes"))(spread(delete))


def queue(
    place: Place, as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False
) -> None:
    """Show what runs on a server, what waits, and why each sweep waits."""
    from service.records import State

    with place.server_only() as client:
        found, cluster = client.queue(), client.cluster()
    if as_json:
        entries = [entry.model_dump(mode="json") for entry in found]
        typer.echo(json.dumps({"cluster": cluster.model_dump(mode="json"), "queue": entries}, indent=1))
        return
    if cluster.is_reachable:
        nodes = f"{cluster.nodes} node{'' if cluster.nodes == 1 else 's'}"
        typer.echo(f"{nodes}, {cluster.cpus:g} CPUs, {cluster.gpus:g} GPUs; {cluster.concurrent_trials} trials at once")
    elif not any(entry.state is State.QUEUED for entry in found):  # their reason says it
        typer.echo(f"the cluster cannot be reached: {cluster.message}")
    _print_queue(found)


def _print_queue(found: list[QueueEntry]) -> None:
    import time

    from rich.markup import escape
    from rich.table import Table

    from service.cli.remote_sweeps import printable
    from service.views.progress import console, duration

    if not found:
        typer.echo("nothing runs and nothing waits; submit a sweep with: tuneyard submit sweep.yaml")
        return
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("", "sweep", "state", "owner", "project", "priority", "trials at once", "since", "why"):
        shown.add_column(column, no_wrap=column == "sweep")
    for entry in found:
        place = "" if entry.position is None else str(entry.position)
        since = duration(max(0.0, time.time() - entry.queued_at))
        trials = str(entry.concurrency) if entry.concurrency else ""
        texts = (entry.sweep_id, str(entry.state), entry.owner, entry.project, str(entry.priority), trials, since)
        shown.add_row(place, *map(escape, texts), escape(printable(entry.reason)))
    console().print(shown)


def prioritize(
    place: Place,
    sweep: NamedSweep,
    priority: Annotated[int, typer.Argument(help="Higher ones go first", min=-1000, max=1000)],
) -> None:
    """Give a server's sweep another priority: a waiting one another place in the queue, a running one a firmer hold.

    Sweeps of a higher priority may take the place of a running one, which then waits for its turn.
    """
    with place.server_only() as client:
        found = client.prioritise(sweep, priority)
    typer.echo(f"{found.id} has priority {found.priority}")


def pause(place: Place, sweep: NamedSweep) -> None:
    """Pause a sweep: its trials save their state at their next checkpoints, and its place is free.

    `tuneyard resume` goes on with it. On this machine, the same as `tuneyard stop`.
    """
    from service.cli.run import stop

    stop(place, sweep)


def cancel(
    place: Place,
    sweep: NamedSweep,
    force: Annotated[
        bool, typer.Option("--force", help="At once, without its cluster, which is gone for good: for operators.")
    ] = False,
) -> None:
    """End a server's sweep for good, with what it has found so far.

    `tuneyard extend` alone leads back. On this machine use `tuneyard stop`.
    """
    with place.server_only() as client:
        found = client.cancel(sweep, force=force)
    typer.echo(f"{found.id} is {found.state}" if found.state.is_over else f"{found.id} ends")


def fork(
    place: Place,
    sweep: NamedSweep,
    overrides: Overrides = None,
    name: Annotated[str | None, typer.Option(help="Call the new sweep this.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Learn nothing from the old sweep's trials.")] = False,
) -> None:
    """Start a new sweep from an old one with changes; what the old trials showed is its prior knowledge."""
    with place.opened() as client:
        if client is None:
            from service.sweeps.folders import find
            from service.sweeps.launch import start
            from service.sweeps.past_sweeps import with_past
            from service.sweeps.submission import forked

            changes = [*(overrides or ()), *([f"name={name}"] if name else ())]
            job = forked(find(settings.home(), sweep), changes, keeps_results=not fresh)
            started = start(settings.home(), *with_past(settings.home(), job))
            typer.echo(started.id)
            return
        made = client.fork(sweep, overrides=overrides or (), name=name, keep_results=not fresh)
    typer.echo(made.id)
    typer.echo(f"queued on {client.url}; watch it with: tuneyard watch {made.id}", err=True)


def delete(
    place: Place,
    sweep: NamedSweep,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove a server's sweep with its folder: trials, checkpoints, logs, report.

    What it has told MLflow stays there, until it is deleted there: runs with metrics and artifacts, registered models.
    """
    with place.server_only() as client:
        found = client.sweep(sweep)
        if not yes:
            typer.confirm(f"remove {found.id} of {found.owner} for good (its runs in MLflow stay)?", abort=True)
        client.delete(found.id)
    typer.echo(f"{found.id} is being removed")
