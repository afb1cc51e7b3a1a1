"""Commands on sweep files that run nothing: validate, plan, schema, fmt."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service import settings
from service.cli.text import examples
from service.errors import BackendError, Fault, SpecError

if TYPE_CHECKING:
    from service.spec.sweep_spec import SweepSpec


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `app`."""
    app.command(epilog=examples("tuneyard validate sweep.yaml", "tuneyard validate sweep.yaml --no-signatures"))(
        validate
    )
    app.command(
        epilog=examples(
            "tuneyard plan sweep.yaml",
            "tuneyard plan sweep.yaml --seconds-per-epoch 90",
            "tuneyard plan sweep.yaml --template rayjob.yaml",
        )
    )(plan)
    app.command(epilog=examples("tuneyard schema --output sweep.schema.json"))(schema)
    app.command(epilog=examples("tuneyard fmt sweep.yaml", "tuneyard fmt sweep.yaml --write"))(fmt)


SweepFile = Annotated[Path, typer.Argument(metavar="SWEEP.YAML", help="The sweep file.")]
Overrides = Annotated[list[str] | None, typer.Option("--set", metavar="PATH=VALUE", help="Change a value of the file.")]
Signatures = Annotated[
    bool, typer.Option("--signatures/--no-signatures", help="Check parameter paths against the real signatures too.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Write it to this file.")]


def validate(
    sweep: SweepFile,
    overrides: Overrides = None,
    signatures: Signatures = True,
    as_json: Json = False,
) -> None:
    """Say everything that is wrong with a sweep file.

    Each fault comes with its line, what is allowed and the nearest name; exit code 2 where there is any.
    """
    faults = _faults(sweep, overrides or [], signatures=signatures)
    if as_json:
        typer.echo(json.dumps([asdict(fault) for fault in faults], indent=1))
        raise typer.Exit(2 if faults else 0)
    if faults:
        raise SpecError(faults)
    typer.echo(f"{sweep} is a valid sweep" + ("" if signatures else " (parameter paths were not checked)"))


def plan(
    sweep: SweepFile,
    overrides: Overrides = None,
    seconds_per_epoch: Annotated[
        float | None, typer.Option(help="How long one trial takes for one epoch; gives hours.", min=0)
    ] = None,
    template: Annotated[
        Path | None, typer.Option(help="The RayJob of a cluster on Kubernetes, for its nodes.", metavar="FILE")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what a sweep would do, without running any of it.

    Trials, rungs and how many trials reach each, epochs, CPU and GPU hours, checkpoints on disk, nodes.
    """
    from service.spec.sweep_spec import load_sweep
    from service.sweeps.past_sweeps import gather
    from service.sweeps.plan import plan as make_plan
    from service.views.plan import plan_lines

    spec = load_sweep(sweep, overrides or [])
    made = make_plan(spec, seconds_per_epoch=seconds_per_epoch)
    if spec.search.warm_start:
        learned = gather(settings.home(), spec, str(sweep)).about
        made = replace(made, notes=(*made.notes, f"warm start: {learned}"))
    made = replace(made, nodes=_nodes(spec, made.trials if made.fits is None else made.fits.most, template))
    typer.echo(json.dumps(made.to_dict(), indent=1) if as_json else "\n".join(plan_lines(made)))


def _nodes(spec: SweepSpec, trials: int | None, template: Path | None) -> tuple[str, ...]:
    from cluster.backend import JobError
    from cluster.kuberay import groups
    from service.sweeps.plan_nodes import node_lines

    try:
        return node_lines(spec, trials, [] if template is None else groups(template))
    except JobError as error:
        raise BackendError(str(error)) from error


def schema(output: Output = None) -> None:
    """Print the JSON Schema of sweep files.

    An editor checks and completes a sweep file with it, by a first line
    `# yaml-language-server: $schema=sweep.schema.json`.
    """
    from service.spec.schema import json_schema

    text = json.dumps(json_schema(), indent=1) + "\n"
    if output is None:
        typer.echo(text, nl=False)
    else:
        output.write_text(text)
        typer.echo(f"{output}: name it in a sweep file's first line: # yaml-language-server: $schema={output}")


def fmt(
    sweep: SweepFile,
    write: Annotated[bool, typer.Option("--write", "-w", help="Replace the file; comments in it are lost.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Only say whether the file is canonical (exit code 1).")
    ] = False,
) -> None:
    """Print a sweep file in its canonical form.

    Words of W&B, Katib and Determined become ours, and keys come in the usual order.
    """
    from service.spec.text import canonical_text

    text = canonical_text(sweep)
    if check:
        is_canonical = text == sweep.read_text()
        typer.echo(f"{sweep} is {'' if is_canonical else 'not '}in canonical form")
        raise typer.Exit(0 if is_canonical else 1)
    if write:
        sweep.write_text(text)
    else:
        typer.echo(text, nl=False)


def _faults(sweep: Path, overrides: list[str], *, signatures: bool) -> list[Fault]:
    from service.spec.sweep_spec import load_sweep
    from service.sweeps.submission import check

    try:
        spec = load_sweep(sweep, overrides)
        if signatures:
            check(sweep, spec)
    except SpecError as error:
        return list(error.faults)
    return []
