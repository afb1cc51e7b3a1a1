"""The command that shows who did what on a server: audit."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from service.cli.place import Place, spread
from service.cli.text import examples


def register(app: typer.Typer) -> None:
    """Add the command of this file to `app`."""
    shows = ("tuneyard audit", "tuneyard audit --project vision --most 500", "tuneyard audit --json")
    app.command(epilog=examples(*shows))(spread(audit))


def audit(
    place: Place,
    most: Annotated[int, typer.Option(help="How many entries.", min=1)] = 50,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Show who did what, the newest first.

    That of one project takes an admin there; without one, an admin of every project sees all.
    """
    with place.server_only() as client:
        found = client.access.newest_audit(most)
    if as_json:
        typer.echo(json.dumps([entry.model_dump(mode="json") for entry in found], indent=1))
        return
    from datetime import UTC, datetime

    from service.cli.remote_sweeps import printable

    for entry in found:
        at = datetime.fromtimestamp(entry.at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
        what = f"{entry.action} {entry.subject}".strip()
        told = f"{at}  {entry.user:<24} {entry.outcome:<8} {entry.project or '-':<16} {what}  {entry.address}"
        typer.echo(printable(told.rstrip()))
    if not found:
        typer.echo("nobody has done anything yet")
