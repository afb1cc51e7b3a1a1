"""Commands for API tokens: token create, token list, token revoke."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from service import settings
from service.cli.place import Place, spread
from service.cli.text import examples
from service.errors import Fault, SpecError
from service.records import EVERY_PROJECT, Role

tokens = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Make, list and revoke API tokens of a server.")
_DAY_S = 86_400.0


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `app`."""
    creates = (
        "tuneyard token create laptop",
        "tuneyard token create nightly --role submitter --project vision --days 90",
        "tuneyard token create ada --user ada@example.org --role admin",
        "tuneyard token create first --admin",
    )
    tokens.command(epilog=examples(*creates))(spread(create))
    tokens.command("list", epilog=examples("tuneyard token list", "tuneyard token list --json"))(spread(list_tokens))
    tokens.command(epilog=examples("tuneyard token revoke 3f9a1c", "tuneyard token revoke 3f9a1c --alone"))(
        spread(revoke)
    )
    overview = examples(creates[0], "tuneyard token list", "tuneyard token revoke 3f9a1c")
    app.add_typer(tokens, name="token", epilog=overview)


def create(
    place: Place,
    name: Annotated[str, typer.Argument(help="What it is for: lower-case letters, digits and hyphens")],
    role: Annotated[Role | None, typer.Option(help="What it may do [default: all that you may]")] = None,
    user: Annotated[str | None, typer.Option(help="Whose it is; others' tokens are made by an admin.")] = None,
    days: Annotated[float | None, typer.Option(help="Days until it ends [default: never]", min=0.001, max=3660)] = None,
    admin: Annotated[
        bool, typer.Option("--admin", help="An admin's, straight into the database of the service of this machine.")
    ] = False,
) -> None:
    """Make a token and print it, this once. Only its hash is kept.

    With --role, it counts in --project, or in every project where none is given. The first token of a service is made
    with --admin where its database is: nobody can log in before.
    """
    if admin:
        _create_first(name, user, days)
        return
    roles = None if role is None else {place.project or EVERY_PROJECT: role}
    if role is None and place.project is not None:
        raise SpecError([Fault("--project needs --role, which says what the token may do there", "--role")])
    with place.server_only() as client:
        made = client.access.create_token(
            name, user=user, roles=roles, expires_in_s=None if days is None else days * _DAY_S
        )
    typer.echo(made.token)
    typer.echo(f"{made.id} of {made.user}; it is not shown again. Use it with: tuneyard login {client.url}", err=True)


def _create_first(name: str, user: str | None, days: float | None) -> None:
    import getpass

    from service.server.first_token import first_token

    owner = user or getpass.getuser()
    typer.echo(first_token(settings.home(), name, owner, days))
    typer.echo(
        f"of {owner}, an admin of every project; it is not shown again. Use it with: tuneyard login URL", err=True
    )


def list_tokens(
    place: Place,
    everybody: Annotated[bool, typer.Option("--all", help="Everybody's, for an admin of every project.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """List tokens, never their secrets."""
    with place.server_only() as client:
        found = client.access.tokens(everybody=everybody)
    if as_json:
        typer.echo(json.dumps([token.model_dump(mode="json") for token in found], indent=1))
        return
    for token in found:
        roles = ", ".join(
            f"{role} in {'every project' if p == EVERY_PROJECT else p}" for p, role in token.roles.items()
        )
        state = "revoked" if token.revoked_at is not None else _until(token.expires_at)
        typer.echo(f"{token.id:<14} {token.name:<20} {token.user:<24} {state:<18} {roles}")
    if not found:
        typer.echo("there are no tokens; make one with: tuneyard token create NAME")


def _until(expires_at: float | None) -> str:
    from datetime import UTC, datetime

    return "" if expires_at is None else f"until {datetime.fromtimestamp(expires_at, UTC):%Y-%m-%d}"


def revoke(
    place: Place,
    token: Annotated[str, typer.Argument(help="Its id, as `token list` shows it")],
    alone: Annotated[bool, typer.Option("--alone", help="Let the tokens that were made with it go on.")] = False,
) -> None:
    """End a token at once, and all that were made with it."""
    with place.server_only() as client:
        client.access.revoke_token(token, alone=alone)
    typer.echo(f"{token} counts no more")
