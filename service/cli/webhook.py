"""Commands for who is told of a project's events: webhook list, webhook add, webhook remove."""

from __future__ import annotations

import json
from typing import Annotated, Final

import typer

from service.cli.place import Place, spread
from service.cli.text import complete_by, examples
from service.errors import Fault, SpecError
from service.plugins import nearest
from service.records import EVENT_KINDS

webhooks = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Have a project's events sent somewhere.")
_DEFAULT_KINDS: Final = ("finished", "failed")
_complete_id: Final = complete_by(lambda client, _: (hook.id for hook in client.access.webhooks()))


def _complete_kind(incomplete: str) -> list[str]:
    return [kind for kind in EVENT_KINDS if kind.startswith(incomplete)]


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `app`."""
    lists = ("tuneyard webhook list", "tuneyard webhook list --project vision --json")
    adds = (
        "tuneyard webhook add https://chat.example.org/hook",
        "tuneyard webhook add https://ci.example.org/tuned --on finished --on improved --project vision",
    )
    webhooks.command("list", epilog=examples(*lists))(spread(list_webhooks))
    webhooks.command(epilog=examples(*adds))(spread(add))
    webhooks.command(epilog=examples("tuneyard webhook remove 5e0c61f2a9b4"))(spread(remove))
    overview = examples("tuneyard webhook list", adds[0], "tuneyard webhook remove 5e0c61f2a9b4")
    app.add_typer(webhooks, name="webhook", epilog=overview)


def list_webhooks(
    place: Place, as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False
) -> None:
    """List where a project's events go, never the secrets that sign them."""
    from service.cli.remote_sweeps import printable

    with place.server_only() as client:
        found = client.access.webhooks()
    if as_json:
        typer.echo(json.dumps([hook.model_dump(mode="json") for hook in found], indent=1))
        return
    for hook in found:
        typer.echo(f"{hook.id:<14} {hook.project:<20} {printable(hook.url)}  {', '.join(hook.kinds)}")
    if not found:
        typer.echo("nobody is told; tell somebody with: tuneyard webhook add URL")


def add(
    place: Place,
    url: Annotated[str, typer.Argument(help="Where each event is sent as a POST")],
    kinds: Annotated[
        list[str] | None,
        typer.Option(
            "--on",
            metavar="EVENT",
            help=f"An event to tell of; may be repeated. One of: {', '.join(EVENT_KINDS)} [default: finished, failed]",
            autocompletion=_complete_kind,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Have a project's events sent to a URL. Prints the secret that signs them, this once."""
    faults = [_no_kind(kind) for kind in kinds or () if kind not in EVENT_KINDS]
    if faults:
        raise SpecError(faults)
    with place.server_only() as client:
        made = client.access.add_webhook(url, kinds or _DEFAULT_KINDS)
    if as_json:
        typer.echo(made.model_dump_json(indent=1))
        return
    typer.echo(made.secret)
    told = f"{made.id} of {made.project}, on {', '.join(made.kinds)}; the secret is not shown again"
    typer.echo(f"{told}. End it with: tuneyard webhook remove {made.id} --project {made.project}", err=True)


def _no_kind(given: str) -> Fault:
    """Nobody would ever be told of what does not exist, and nobody would notice."""
    allowed = ", ".join(EVENT_KINDS)
    return Fault("there is no such event", "--on", given=given, allowed=allowed, nearest=nearest(given, EVENT_KINDS))


def remove(
    place: Place,
    webhook: Annotated[str, typer.Argument(help="Its id, as `webhook list` shows it", autocompletion=_complete_id)],
) -> None:
    """Send nothing there any more."""
    with place.server_only() as client:
        client.access.remove_webhook(webhook)
    typer.echo(f"{webhook} is told nothing more")
