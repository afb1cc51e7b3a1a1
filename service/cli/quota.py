"""Commands for what users and projects may have at most: quota show, quota set, quota remove."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from service.cli.place import Whole, spread
from service.cli.text import complete_by, examples
from service.errors import Fault, SpecError
from service.records import Quota

if TYPE_CHECKING:
    from collections.abc import Iterable

    from service.api.models_access import QuotaAnswer
    from service.client import Client

quotas = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Show and set what users and projects may have at most."
)
_OTHERS: Final = "*"
_NONE: Final = "none"
_LIMIT: Final = f"NUMBER|{_NONE}"
_WORDS: Final = {
    "running_sweeps": "running sweeps",
    "concurrent_trials": "trials at once",
    "cpus": "CPUs",
    "gpus": "GPUs",
    "trial_hours": "trial-hours in all",
    "package_bytes": "bytes of code packages",
}
_WHOLE: Final = ("running_sweeps", "concurrent_trials", "package_bytes")


class Kind(StrEnum):
    """Whom a quota limits."""

    USER = "user"
    PROJECT = "project"


@dataclass(frozen=True, slots=True)
class Limits:
    """One option for each limit of a quota, as it was typed."""

    running_sweeps: Annotated[str | None, typer.Option(help="Sweeps that run at once.", metavar=_LIMIT)] = None
    concurrent_trials: Annotated[str | None, typer.Option(help="Trials at once, of all sweeps.", metavar=_LIMIT)] = None
    cpus: Annotated[str | None, typer.Option(help="CPUs at once.", metavar=_LIMIT)] = None
    gpus: Annotated[str | None, typer.Option(help="GPUs at once; parts are fine.", metavar=_LIMIT)] = None
    trial_hours: Annotated[str | None, typer.Option(help="Hours of trials in all, ever.", metavar=_LIMIT)] = None

    package_bytes: Annotated[
        str | None, typer.Option(help="Bytes of code packages that are kept for a project.", metavar=_LIMIT)
    ] = None

    def changes(self) -> dict[str, Any]:
        """The limits that were given, by name; None for `none`. SpecError with every one that is no limit."""
        found: dict[str, Any] = {}
        faults = []
        for name in _WORDS:
            text = getattr(self, name)
            if text is None:
                continue
            try:
                found[name] = _limit(name, text)
            except ValueError as error:
                faults.append(Fault(str(error), f"--{name.replace('_', '-')}", given=text))
        if faults:
            raise SpecError(faults)
        return found


def _limit(name: str, text: str) -> float | None:
    if text == _NONE:
        return None
    if name in _WHOLE:
        if not text.isdecimal():
            msg = f"must be a whole number, 0 or more, or {_NONE}"
            raise ValueError(msg)
        return int(text)
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        msg = f"must be a number, 0 or more, or {_NONE}"
        raise ValueError(msg)
    return number


def _known(client: Client, given: dict[str, Any]) -> Iterable[str]:
    """Names for the shell: projects that exist, users that have a quota."""
    if given.get("kind") == Kind.PROJECT:
        return [_OTHERS, *(project.name for project in client.access.projects())]
    return [_OTHERS, *(quota.name for quota in client.access.quotas() if quota.kind == Kind.USER.value)]


_complete_name: Final = complete_by(_known)


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `app`."""
    shows = ("tuneyard quota show", "tuneyard quota show user ada@example.org", "tuneyard quota show --json")
    sets = (
        "tuneyard quota set user ada@example.org --cpus 16 --gpus 2",
        "tuneyard quota set project vision --trial-hours 500 --running-sweeps none",
        "tuneyard quota set user '*' --concurrent-trials 8",
    )
    quotas.command(epilog=examples(*shows))(spread(show))
    quotas.command("set", epilog=examples(*sets))(spread(set_quota))
    quotas.command(epilog=examples("tuneyard quota remove user ada@example.org"))(spread(remove))
    overview = examples(shows[0], sets[0], "tuneyard quota remove user ada@example.org")
    app.add_typer(quotas, name="quota", epilog=overview)


def show(
    place: Whole,
    kind: Annotated[Kind | None, typer.Argument(help="Only those of users, or of projects")] = None,
    name: Annotated[
        str | None, typer.Argument(help="Only the one that counts for this name", autocompletion=_complete_name)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Show the quotas that bind you; all of them to an admin of every project.

    That of `*` counts for everybody who has none of their own.
    """
    with place.server_only() as client:
        found = [quota for quota in client.access.quotas() if kind is None or quota.kind == kind]
    if name is not None:
        found = [q for q in found if q.name == name] or [q for q in found if q.name == _OTHERS]
    if as_json:
        typer.echo(json.dumps([quota.model_dump(mode="json") for quota in found], indent=1))
        return
    for quota in found:
        typer.echo(f"{quota.kind:<8} {quota.name:<24} {_told(quota)}")
    if not found:
        typer.echo("nothing is limited; limit somebody with: tuneyard quota set user NAME --cpus 16")


def set_quota(
    place: Whole,
    kind: Annotated[Kind, typer.Argument(help="Whom it limits")],
    name: Annotated[
        str,
        typer.Argument(
            help="The user or the project; `*` is everybody without a quota of their own", autocompletion=_complete_name
        ),
    ],
    limits: Limits,
) -> None:
    """Limit a user or a project; what is not named stays as it is, and `none` lifts a limit.

    A quota of one's own stands in for the whole of that of `*`. Sweeps that run already give back what is too much.
    """
    changes = limits.changes()
    if not changes:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in _WORDS)
        raise SpecError([Fault("give at least one limit", "quota set", allowed=options)])
    with place.server_only() as client:
        own = [quota for quota in client.access.quotas() if (quota.kind, quota.name) == (kind, name)]
        before = Quota(**{field.name: getattr(own[0], field.name) for field in fields(Quota)}) if own else Quota()
        made = client.access.set_quota(kind.value, name, replace(before, **changes))
    typer.echo(f"{made.kind} {made.name}: {_told(made)}")


def remove(
    place: Whole,
    kind: Annotated[Kind, typer.Argument(help="Whom it limits")],
    name: Annotated[str, typer.Argument(help="The user, the project, or `*`", autocompletion=_complete_name)],
) -> None:
    """Remove a quota: whom it limited is limited by that of `*` alone, if there is one."""
    with place.server_only() as client:
        client.access.remove_quota(kind.value, name)
    typer.echo(f"{kind.value} {name} has no quota of its own")


def _told(quota: QuotaAnswer) -> str:
    """Its limits as a person reads them."""
    limits = ((getattr(quota, name), word) for name, word in _WORDS.items())
    return ", ".join(f"{limit:.15g} {word}" for limit, word in limits if limit is not None) or "no limit"
