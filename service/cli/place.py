"""Where a command works: on this machine's sweeps, or on those of the server that is chosen or named with --server."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import typer

from service.client.contexts import LOCAL, Context, chosen, load
from service.errors import ContextError

if TYPE_CHECKING:
    from service.client import Client

R = TypeVar("R")
_PATIENCE_S: Final = 5.0  # a service is back from a restart by then, and a person has not given up


def complete_server(incomplete: str) -> list[str]:
    """Names of contexts for the shell."""
    try:
        return [name for name in (*load().known, LOCAL) if name.startswith(incomplete)]
    except ContextError:
        return []  # a shell has no place for a message


@dataclass(frozen=True, slots=True)
class Whole:
    """The option of a command that is about a server as a whole, not about one of its projects."""

    server: Annotated[
        str | None,
        typer.Option(
            help="A context's name, a server's URL, or `local` [default: the chosen context]", metavar="SERVER"
        ),
    ] = None

    @contextmanager
    def opened(self) -> Iterator[Client | None]:
        """A client of the server that is meant; None where it is this machine."""
        context = chosen(self.server)
        if context is None:
            yield None
            return
        with self._client(context) as client:
            yield client

    @contextmanager
    def server_only(self) -> Iterator[Client]:
        """A client of the server that is meant. ContextError where it is this machine."""
        with self.opened() as client:
            if client is None:
                msg = "this needs a server: log in with `tuneyard login URL`, or name one with --server URL"
                raise ContextError(msg)
            yield client

    def _client(self, context: Context) -> Client:
        from service.client import Client

        return Client(context.url, context.token, project=self._project(context), patience_s=_PATIENCE_S)

    def _project(self, context: Context) -> str | None:
        return context.project


@dataclass(frozen=True, slots=True)
class Place(Whole):
    """The options of a command that works on a server's sweeps as well."""

    project: Annotated[
        str | None, typer.Option(help="The project on the server [default: the context's]", metavar="PROJECT")
    ] = None

    def _project(self, context: Context) -> str | None:
        return self.project or context.project


def spread(command: Callable[..., R]) -> Callable[..., R]:
    """`command` with every parameter that is a dataclass turned into one option for each of its fields."""
    own = inspect.signature(command, eval_str=True)
    groups = {name: p.annotation for name, p in own.parameters.items() if _is_group(p.annotation)}
    options = {name: _parameters(group) for name, group in groups.items()}

    @functools.wraps(command)
    def spread_out(**given: Any) -> R:  # noqa: ANN401  # whatever the command takes
        for name, group in groups.items():
            given[name] = group(**{option.name: given.pop(option.name) for option in options[name]})
        return command(**given)

    plain = [parameter for name, parameter in own.parameters.items() if name not in groups]
    added = [option for found in options.values() for option in found]
    everything = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in (*plain, *added)]
    spread_out.__signature__ = own.replace(parameters=everything)  # type: ignore[attr-defined]  # read by typer
    return spread_out


def _is_group(annotation: object) -> bool:
    return isinstance(annotation, type) and is_dataclass(annotation)


def _parameters(group: type[Any]) -> list[inspect.Parameter]:
    """The fields of a dataclass as parameters of a command."""
    hints = inspect.signature(group, eval_str=True).parameters
    kind = inspect.Parameter.KEYWORD_ONLY
    return [
        inspect.Parameter(field.name, kind, default=hints[field.name].default, annotation=hints[field.name].annotation)
        for field in fields(group)
    ]
