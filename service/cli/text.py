"""What all commands share in how they speak: examples in the help, the sweep argument with its completion."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from service import settings
from service.client.contexts import chosen
from service.errors import TuneyardError
from service.sweeps.folders import every

if TYPE_CHECKING:
    from service.client import Client

_MOST_COMPLETED: Final = 100


def examples(*lines: str) -> str:
    r"""An epilog whose lines stay as they are; `\b` tells the help formatter not to join them."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def complete_sweep(context: typer.Context, incomplete: str) -> list[str]:
    """Ids of sweeps for the shell: those of the server that is meant, else those under the data folder."""
    try:
        server = chosen(context.params.get("server"))
        if server is None:
            return [sweep.id for sweep in every(settings.home()) if sweep.id.startswith(incomplete)]
        from service.client import Client

        with Client(server.url, server.token, project=server.project, patience_s=0.0) as client:
            return [found.id for found in client.sweeps(text=incomplete or None, most=_MOST_COMPLETED)
                    if found.id.startswith(incomplete)]  # fmt: skip
    except TuneyardError:
        return []  # a shell has no place for a message


def complete_by(
    names: Callable[[Client, dict[str, Any]], Iterable[str]],
) -> Callable[[typer.Context, str], list[str]]:
    """A completion by what the server that is meant has: `names` gets a client, and what was typed already."""

    def complete(context: typer.Context, incomplete: str) -> list[str]:
        try:
            server = chosen(context.params.get("server"))
            if server is None:
                return []
            from service.client import Client

            project = context.params.get("project") or server.project
            with Client(server.url, server.token, project=project, patience_s=0.0) as client:
                return [name for name in names(client, context.params) if name.startswith(incomplete)]
        except TuneyardError:
            return []  # a shell has no place for a message

    return complete


Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Change a value of the file.")]
NamedSweep = Annotated[
    str,
    typer.Argument(metavar="SWEEP", help="A sweep's id, its name, or how its id begins", autocompletion=complete_sweep),
]
SweepArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[SWEEP]",
        help="A sweep's id, its name, or how its id begins [default: the newest]",
        autocompletion=complete_sweep,
        show_default=False,
    ),
]
