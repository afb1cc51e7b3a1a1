"""Commands that give a person something to begin with: new, recipes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.text import examples
from service.errors import Fault, SpecError

if TYPE_CHECKING:
    from service.spec.objective import Goal
    from service.sweeps.new_sweep import Wanted


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `app`."""
    app.command(
        epilog=examples(
            "tuneyard new fit.yaml --output sweep.yaml",
            "tuneyard new net.Net --data net.Waves --output sweep.yaml",
            "tuneyard new net.Net --data net.Waves --metric val_f1 --goal maximize",
        )
    )(new)
    app.command(
        epilog=examples("tuneyard recipes", "tuneyard recipes digits --copy .", "tuneyard recipes --json"),
    )(recipes)


def _complete_recipe(incomplete: str) -> list[str]:
    from service.sweeps.recipes import recipes as found

    return [recipe.name for recipe in found() if recipe.name.startswith(incomplete)]


def new(
    source: Annotated[str, typer.Argument(metavar="FIT.YAML|CLASS", help="A LightningCLI config, or a model's class.")],
    data: Annotated[str | None, typer.Option(metavar="CLASS", help="The data module, where a class is given.")] = None,
    metric: Annotated[str | None, typer.Option(help="What to optimise [default: what validation logs first]")] = None,
    goal: Annotated[str | None, typer.Option(help="minimize or maximize [default: by the metric's name]")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write it to this file.")] = None,
) -> None:
    """Write a first sweep file for your own module.

    The search space comes from the names, types and defaults of its arguments, the objective from what it logs. Where
    its code does not name a validation metric, one batch is trained to see what it logs.
    """
    from service.sweeps.new_sweep import new_sweep

    if output is not None and output.exists():
        message = "is there already, and is not written over"
        raise SpecError([Fault(message, "--output", given=str(output), allowed="another file, or remove it first")])
    made = new_sweep(_wanted(source, data, metric, _goal(goal), output))
    if output is None:
        typer.echo(made.text, nl=False)
        return
    output.write_text(made.text, encoding="utf-8")
    typer.echo(f"{output}: {len(made.searched)} parameters, objective {made.metric}", err=True)
    typer.echo(f"next: tuneyard validate {output}; tuneyard plan {output}; tuneyard run {output}", err=True)


def _goal(text: str | None) -> Goal | None:
    match text:
        case None:
            return None
        case "minimize":
            return "minimize"
        case "maximize":
            return "maximize"
    raise SpecError([Fault("is no goal", "--goal", given=text, allowed="minimize, maximize")])


def _wanted(source: str, data: str | None, metric: str | None, goal: Goal | None, output: Path | None) -> Wanted:
    from service.spec.document import read
    from service.sweeps.new_sweep import Wanted

    path = Path(source)
    if path.suffix not in (".yaml", ".yml"):
        fit: dict[str, Any] = {"model": {"class_path": source}}
        fit |= {"data": {"class_path": data}} if data else {}
        return Wanted(fit, None, Path.cwd(), metric, goal)
    if data:
        raise SpecError([Fault("a config names its data itself", "--data", given=data, allowed="leave it out")])
    folder = output.parent.resolve() if output else Path.cwd()
    root = path.resolve().parent
    base = str(path.resolve().relative_to(folder)) if path.resolve().is_relative_to(folder) else str(path.resolve())
    return Wanted(read(path).plain(), base, root, metric, goal)


def recipes(
    name: Annotated[
        str | None, typer.Argument(metavar="[RECIPE]", help="One of them.", autocompletion=_complete_recipe)
    ] = None,
    copy: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Copy the recipe's files there.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """List the sweeps that come with Tuneyard, with what each needs; or show or copy one of them."""
    from service.sweeps.recipes import recipe
    from service.sweeps.recipes import recipes as found

    if name is None:
        if copy is not None:
            raise SpecError(
                [Fault("says where one recipe goes", "--copy", allowed="tuneyard recipes NAME --copy FOLDER")]
            )
        every = found()
        if as_json:
            rows = [{"name": r.name, "path": str(r.path), "about": r.about, "needs": r.needs} for r in every]
            typer.echo(json.dumps(rows, indent=1))
            return
        width = max((len(one.name) for one in every), default=0)
        for one in every:
            typer.echo(f"{one.name:<{width}}  {one.about}\n{'':<{width}}  needs {one.needs}")
        return
    chosen = recipe(name)
    if copy is None:
        typer.echo(chosen.path.read_text(encoding="utf-8"), nl=False)
        typer.echo(f"run it: tuneyard run {chosen.path}", err=True)
        return
    files = {copy / file: text for file, text in chosen.files().items()}
    taken = [str(path) for path in files if path.exists()]
    if taken:
        raise SpecError([Fault("is there already", "--copy", given=", ".join(taken), allowed="another folder")])
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    typer.echo(f"run it: tuneyard run {copy / chosen.path.name}")
