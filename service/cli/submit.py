"""Commands that reach a server: submit, login, context."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.place import Place, complete_server, spread
from service.cli.text import Overrides, examples
from service.client import contexts
from service.client.contexts import LOCAL, Context
from service.errors import ServerError, SpecError

if TYPE_CHECKING:
    from service.api.models import Sweep
    from service.client import Client, Submission
    from service.shipping.packages import Package


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `app`."""
    app.command(
        epilog=examples(
            "tuneyard submit sweep.yaml",
            "tuneyard submit sweep.yaml --follow",
            "tuneyard submit sweep.yaml --wait && tuneyard best --output best.yaml",
            "tuneyard submit sweep.yaml --set budget.max_trials=20 --name second-try --priority 10",
            "tuneyard submit sweep.yaml --server https://tuneyard.example.org --project vision",
        )
    )(spread(submit))
    logins = ("tuneyard login https://tuneyard.example.org", "tuneyard login http://127.0.0.1:8700 --name lab")
    app.command(epilog=examples(*logins, "tuneyard login https://tuneyard.example.org < token.txt"))(login)
    chooses = ("tuneyard context", "tuneyard context lab", "tuneyard context local", "tuneyard context lab --remove")
    app.command(epilog=examples(*chooses))(context)


@dataclass(frozen=True, slots=True)
class Watching:
    """The options that say how long `submit` stays."""

    follow: Annotated[bool, typer.Option("--follow", "-f", help="Show how the sweep goes until it is over.")] = False
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the sweep is over; show only what came of it.")] = (
        False
    )
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON objects, one a line.")] = False


def submit(
    place: Place,
    watching: Watching,
    sweep: Annotated[Path, typer.Argument(metavar="SWEEP.YAML", help="The sweep file, as for `run`.")],
    overrides: Overrides = None,
    name: Annotated[str | None, typer.Option(help="Call the sweep this instead.")] = None,
    priority: Annotated[int, typer.Option(help="Higher ones go first.", min=-1000, max=1000)] = 0,
) -> None:
    """Queue a sweep on a server, with its code, and print its id.

    The code is that of `code.root`, without what .gitignore and `code.exclude` name; the server gets it once.
    Ctrl-C while following only ends the watching. Exit codes with --wait and --follow are those of `run`.
    """
    from service.client import Submission

    if watching.follow and watching.wait:
        message = "--follow shows the sweep while --wait is silent: give one of them"
        raise typer.BadParameter(message, param_hint="--wait")
    changes = [*(overrides or ()), *([f"name={name}"] if name else ())]
    with place.server_only() as client:
        prepared = Submission.of(sweep, changes)
        _note_what_stays(prepared.package)
        sent = _sent(client, replace(prepared, priority=priority))
        _watch(client, sent.id, str(sweep), watching)


def _sent(client: Client, submission: Submission) -> Sweep:
    try:
        return client.send(submission)
    except KeyboardInterrupt:
        sys.stderr.write("whether the server has queued it already is not known: look at `tuneyard list`\n")
        raise


def _watch(client: Client, sweep_id: str, file: str, watching: Watching) -> None:
    from service.cli.remote_sweeps import follow, standing

    if watching.as_json and not (watching.follow or watching.wait):
        typer.echo(client.sweep(sweep_id).model_dump_json())
        return
    if not watching.follow:
        typer.echo(sweep_id, err=watching.as_json)
    if not (watching.follow or watching.wait):
        sys.stderr.write(f"queued {standing(client, sweep_id)}; watch it with: tuneyard watch {sweep_id}\n")
        return
    try:
        code = follow(client, sweep_id, as_json=watching.as_json, quiet=watching.wait)
    except SpecError as error:  # what the sweep's first worker found
        raise SpecError([replace(fault, file=file) for fault in error.faults]) from error
    raise typer.Exit(code)


def _note_what_stays(package: Package | None) -> None:
    if package is not None and package.left_behind:
        shown = ", ".join(package.left_behind[:5]) + (", …" if len(package.left_behind) > 5 else "")  # noqa: PLR2004  # as shown
        sys.stderr.write(f"links that lead to folders or out of code.root stay behind: {shown}\n")


def login(
    url: Annotated[str, typer.Argument(metavar="URL", help="The server, as in https://tuneyard.example.org")],
    name: Annotated[str | None, typer.Option(help="What to call it [default: its host's name]")] = None,
    project: Annotated[str | None, typer.Option(help="The project to work in [default: the server's choice]")] = None,
) -> None:
    """Remember a server and a token for it, and work with it from now on.

    The token is asked for, or read from standard input; it is never given in the command line, which others can see.
    A server that asks nobody who they are needs none. TUNEYARD_SERVER and TUNEYARD_TOKEN do without this.
    """
    url = contexts.checked_url(url)
    label = contexts.checked_name(name or _host(url))
    token, user = _identified(url)
    path = contexts.save(contexts.load().adding(Context(label, url, token, project)))
    typer.echo(f"{user} on {url}, as context {label!r}; `tuneyard context {LOCAL}` works on this machine again")
    sys.stderr.write(f"kept in {path}, which only you can read\n")


def _host(url: str) -> str:
    from urllib.parse import urlsplit

    return urlsplit(url).hostname or url


def _identified(url: str) -> tuple[str | None, str]:
    """(token, whom the server takes it for). ServerError where it does not count."""
    from service.client import Client

    try:
        with Client(url, patience_s=0.0) as client:
            return None, client.who_am_i().user
    except ServerError as error:
        if error.status != 401:  # noqa: PLR2004  # HTTP: it wants to know who asks
            raise
    if url.startswith("http:") and _host(url) not in ("localhost", "127.0.0.1", "::1"):
        sys.stderr.write("this URL is not encrypted: others in the network can read the token\n")
    token = typer.prompt("Token", hide_input=True) if sys.stdin.isatty() else sys.stdin.readline()
    with Client(url, token.strip(), patience_s=0.0) as client:
        return token.strip(), client.who_am_i().user


def context(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Which to use; `local` for this machine", autocompletion=complete_server),
    ] = None,
    remove: Annotated[bool, typer.Option("--remove", help="Forget it and its token.")] = False,
) -> None:
    """Show the servers you are logged in to, or choose the one that commands are about."""
    known = contexts.load()
    if name is None:
        chosen = contexts.chosen()
        for entry in known.known.values():
            mark = "*" if chosen is not None and entry.name == chosen.name else " "
            typer.echo(f"{mark} {entry.name:<20} {entry.url}{f'  project {entry.project}' if entry.project else ''}")
        typer.echo(f"{'*' if chosen is None else ' '} {LOCAL:<20} this machine")
        if chosen is not None and chosen.name not in known.known:
            typer.echo(f"* {chosen.url}  (from the environment)")
    elif remove:
        contexts.save(known.without(name))
        typer.echo(f"{name} is forgotten")
    else:
        contexts.save(known.choosing(name))
        typer.echo(
            "commands are about this machine" if name == LOCAL else f"commands are about {known.known[name].url}"
        )
