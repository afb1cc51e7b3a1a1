"""The command that plays a sweep's record again: whether it holds, and what another choice would have made of it."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service import settings
from service.cli.text import SweepArgument, examples

if TYPE_CHECKING:
    from service.spec.sweep_spec import SweepSpec
    from service.sweeps.folders import Sweep
    from service.tuning.replay import Replayed
    from service.tuning.what_if import WhatIf


def register(app: typer.Typer) -> None:
    """Add the command of this file to `app`."""
    app.command(
        epilog=examples(
            "tuneyard replay",
            "tuneyard replay digits --json",
            "tuneyard replay digits --scheduler asha,reduction_factor=4",
            "tuneyard replay digits --search tpe,n_startup=5 --workers 8",
        )
    )(replay)


Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Choice = "NAME[,OPTION=VALUE…]"


def replay(
    sweep: SweepArgument = None,
    scheduler: Annotated[
        str | None, typer.Option(metavar=Choice, help="What this scheduler would have made of the recorded curves.")
    ] = None,
    search: Annotated[
        str | None, typer.Option(metavar=Choice, help="What this searcher would have, among what was tried.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Trials at the same time [default: as many as there were].", min=1, max=10**5)
    ] = None,
    as_json: Json = False,
) -> None:
    """Take every decision of a sweep again and compare; or play what another choice would have made of it.

    Without options, the exit code is 1 where a decision comes out differently. A name that the sweep used itself
    keeps its other options.
    """
    from service.sweeps.folders import find

    found = find(settings.home(), sweep)
    if scheduler is None and search is None and workers is None:
        _again(found, as_json=as_json)
    else:
        _otherwise(found, {"scheduler": scheduler, "search": search}, workers, as_json=as_json)


def _again(sweep: Sweep, *, as_json: bool) -> None:
    from service.tuning.replay import replay_folder

    result = replay_folder(sweep.folder)
    if as_json:
        typer.echo(json.dumps({"sweep_id": sweep.id, **asdict(result)}, indent=1))
    else:
        typer.echo(f"{sweep.id}: {_sentence(result)}")
    raise typer.Exit(0 if result.difference is None else 1)


def _sentence(result: Replayed) -> str:
    counts = f"{result.proposals:,} proposals and {result.decisions:,} other decisions"
    clock = f" ({result.by_the_clock:,} because the wall clock had run out, as recorded)" if result.by_the_clock else ""
    difference = result.difference
    if difference is None:
        return f"{counts}{clock}, all the same as in its {result.records:,} records"
    return (
        f"{counts}{clock} are the same; then record {difference.sequence} of {result.records:,} differs\n"
        f"  recorded: {difference.recorded}\n  decided:  {difference.decided}\n"
        "  was it decided by another version of Tuneyard, Python or numpy? The report names those of the sweep"
    )


def _otherwise(sweep: Sweep, choices: dict[str, str | None], workers: int | None, *, as_json: bool) -> None:
    from service.tuning.ledger import read_ledger
    from service.tuning.replay import recorded_spec
    from service.tuning.sweep_folder import read_job
    from service.tuning.what_if import Recorded, what_if

    records = read_ledger(sweep.folder)
    spec = recorded_spec(records)
    other = _changed(spec, {section: text for section, text in choices.items() if text is not None})
    result = what_if(Recorded(records, spec, read_job(sweep.folder).defaults), other, workers)
    if as_json:
        typer.echo(json.dumps({"sweep_id": sweep.id, **asdict(result)}, indent=1))
    else:
        _print(sweep.id, result)


def _changed(spec: SweepSpec, choices: dict[str, str]) -> SweepSpec:
    """`spec` with other sections. SpecError as for a sweep file that held them."""
    from service.spec.faults import Faults
    from service.spec.reader import resolved_tree
    from service.spec.sweep_spec import canonical_tree

    data = spec.to_dict()
    for section, text in choices.items():
        data[section] = _section(section, text, data[section])
    root = resolved_tree(data)
    faults = Faults(root)
    canonical_tree(root, faults)
    faults.raise_any()
    return type(spec).from_dict(root.plain())


def _section(section: str, text: str, recorded: dict[str, Any]) -> dict[str, Any]:
    """`asha,reduction_factor=4` as the section of a sweep file; values are YAML."""
    from service.errors import Fault, SpecError
    from service.spec.document import parse

    name, *options = re.split(r",(?=\s*\w+\s*=)", text)
    own = {"scheduler": ("max_epochs",), "search": ("start_from_defaults", "start_points")}[section]
    kept = recorded if name == recorded["name"] else {key: recorded[key] for key in own if key in recorded}
    found = {**kept, "name": name.strip()}
    for option in options:
        key, _, value = option.partition("=")
        place = f"--{section} {option.strip()}"
        if not value.strip():
            raise SpecError([Fault("has no value", file=place, allowed="NAME,OPTION=VALUE,OPTION=VALUE")])
        found[key.strip()] = parse(value.strip(), file=place).plain()
    return found


def _print(sweep_id: str, result: WhatIf) -> None:
    from rich.table import Table

    from service.views.progress import console, duration, number

    shown = Table(box=None, header_style="bold", pad_edge=False)
    best = f"best {result.metric}"
    for column in ("", "trials", "epochs", "recorded", "trained", "makespan", best, "there after"):
        shown.add_column(column)
    for course in result.courses:
        part = 1 - course.extrapolated / course.epochs if course.epochs else 1.0
        value = "" if course.best is None else number(course.best)
        promise = "" if course.promised is None else f" ({number(course.promised)}?)"
        reached = "never" if course.reached_s is None else duration(course.reached_s)
        shown.add_row(
            course.name, str(course.trials), str(course.epochs), f"{part:.0%}", duration(course.train_s),
            duration(course.makespan_s), value + promise, reached,
        )  # fmt: skip
    out = console()
    out.print(f"{sweep_id}, {result.workers} at a time", style="bold")
    out.print(shown)
    for note in result.notes:
        out.print(f"- {note}", markup=False, soft_wrap=True)
