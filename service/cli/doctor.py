"""The command that says whether this machine can run sweeps: doctor."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from service import settings
from service.cli.text import examples


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `app`."""
    app.command(epilog=examples("tuneyard doctor", "tuneyard doctor --json"))(doctor)


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False) -> None:
    """Say whether this machine can run sweeps.

    What is installed, what a sweep would get, what is misconfigured; exit code 1 if something must be mended.
    """
    from service.doctor import examine, symbol

    findings = examine(settings.home())
    if as_json:
        typer.echo(json.dumps([finding.to_dict() for finding in findings], indent=1))
    else:
        for finding in findings:
            typer.echo(f"{symbol(finding)} {finding.subject:<10} {finding.text}")
    if any(finding.level == "error" for finding in findings):
        raise typer.Exit(1)
