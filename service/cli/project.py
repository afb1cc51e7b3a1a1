"""Commands for the projects of a server: project list, project create."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from service.cli.place import Whole, spread
from service.cli.text import examples

projects = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List and make projects of a server.")


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `app`."""
    lists = ("tuneyard project list", "tuneyard project list --json")
    projects.command("list", epilog=examples(*lists))(spread(list_projects))
    projects.command(epilog=examples("tuneyard project create vision"))(spread(create))
    overview = examples("tuneyard project list", "tuneyard project create vision")
    app.add_typer(projects, name="project", epilog=overview)


def list_projects(
    place: Whole, as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False
) -> None:
    """List the projects that you may look into, and what you may do there."""
    with place.server_only() as client:
        found = client.access.projects()
    if as_json:
        typer.echo(json.dumps([project.model_dump(mode="json") for project in found], indent=1))
        return
    for project in found:
        typer.echo(f"{project.name:<32} {project.role}")


def create(place: Whole, name: Annotated[str, typer.Argument(help="Lower-case letters, digits and hyphens")]) -> None:
    """Make a project; making it again changes nothing. Only an admin of every project may."""
    with place.server_only() as client:
        made = client.access.create_project(name)
    typer.echo(made.name)
    hint = f"let somebody in with: tuneyard token create NAME --user USER --role submitter --project {made.name}"
    typer.echo(hint, err=True)
