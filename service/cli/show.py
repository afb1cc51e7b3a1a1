"""Commands that look at sweeps: list, show, report, best, ui, sync."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from service import settings
from service.cli.place import Place, spread
from service.cli.text import SweepArgument, examples
from service.errors import SweepNotFoundError
from service.records import State


def register(app: typer.Typer) -> None:
    """Add the commands of this file to `app`."""
    app.command(
        "list", epilog=examples("tuneyard list", "tuneyard list --mine --state running", "tuneyard list --json")
    )(spread(list_sweeps))
    shows = ("tuneyard show", "tuneyard show digits --trials 50", "tuneyard show --importance", "tuneyard show --json")
    app.command(epilog=examples(*shows))(spread(show))
    app.command(epilog=examples("tuneyard report --open", "tuneyard report digits --output digits.html"))(
        spread(report)
    )
    app.command(epilog=examples("tuneyard best", "tuneyard best digits --output best.yaml"))(spread(best))
    app.command(epilog=examples("tuneyard ui", "tuneyard ui --port 5001"))(ui)
    app.command(epilog=examples("tuneyard sync digits"))(sync)


Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Output = Annotated[Path | None, typer.Option("--output", "-o", help="Write it to this file.")]


def list_sweeps(
    place: Place,
    as_json: Json = False,
    mine: Annotated[bool, typer.Option("--mine", help="On a server: only your own.")] = False,
    state: Annotated[list[State] | None, typer.Option(help="Only those in this state; may be given again.")] = None,
) -> None:
    """List sweeps, the newest first; of a server's, the newest thousand."""
    from service.views.overview import rows, table
    from service.views.progress import console

    with place.opened() as client:
        if client is None:
            found = [row for row in rows(settings.home()) if not state or row["state"] in state]
            where, start = f"under {settings.home()}", "tuneyard run sweep.yaml"
        else:
            from service.cli.remote_sweeps import row as remote_row

            found = [remote_row(sweep) for sweep in client.sweeps(states=state or (), mine=mine)]
            where, start = f"on {client.url}", "tuneyard submit sweep.yaml"
    if as_json:
        typer.echo(json.dumps(found, indent=1))
    elif found:
        console().print(table(found))
    else:
        such = " such" if state or mine else ""
        typer.echo(f"there are no{such} sweeps {where}; start one with: {start}")


def show(
    place: Place,
    sweep: SweepArgument = None,
    trials: Annotated[int, typer.Option(help="How many trials to show, the best first.", min=0)] = 20,
    importance: Annotated[
        bool, typer.Option("--importance", help="Show what the trials teach: what mattered, and how early that showed.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show how a sweep stands, with its trials."""
    from service.sweeps.folders import find
    from service.views.insight import print_insight
    from service.views.overview import details, print_details

    with place.opened() as client:
        if client is None:
            found = details(settings.home(), find(settings.home(), sweep), with_insight=importance)
        else:
            from service.cli.remote_sweeps import details as remote_details

            found = remote_details(client, sweep, with_insight=importance)
    if as_json:
        typer.echo(json.dumps(found, indent=1))
    elif importance:
        print_insight(found["insight"], found["metric"]["name"])
    else:
        print_details(found, trials)


def report(
    place: Place,
    sweep: SweepArgument = None,
    output: Output = None,
    open_it: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Print where a sweep's report is, or open it.

    The report is one HTML page that needs nothing else. That of a sweep that still runs says how it stands.
    """
    path = _page(place, sweep)
    if output is not None:
        output.write_bytes(path.read_bytes())
        path = output.absolute()
    typer.echo(path)
    if open_it:
        import webbrowser

        webbrowser.open(path.as_uri())


def best(place: Place, sweep: SweepArgument = None, output: Output = None) -> None:
    """Print the best trial's LightningCLI config.

    It trains that trial again without Tuneyard.
    """
    with place.opened() as client:
        if client is None:
            text = _report_file(sweep, "report/best.yaml").read_text()
        else:
            from service.cli.remote_sweeps import best_config

            text = best_config(client, sweep)
    if output is None:
        typer.echo(text, nl=False)
    else:
        output.write_text(text)
        typer.echo(f"{output}: train it again with `python your_lightning_cli.py fit --config {output}`")


def ui(
    port: Annotated[int, typer.Option(help="Where to serve.", min=1, max=65535)] = 5000,
    host: Annotated[
        str, typer.Option(help="An address of this machine; MLflow asks nobody who they are.")
    ] = "127.0.0.1",
) -> None:
    """Serve MLflow's pages on the local store."""
    import os

    from service.tuning.tracking_server import mlflow_environment, mlflow_ui_command, prepare_store

    prepare_store(settings.home())
    command = mlflow_ui_command(settings.home(), host, port)
    typer.echo(f"MLflow on http://{host}:{port} (its first page takes some seconds; Ctrl-C ends it)")
    sys.stdout.flush()
    os.execvpe(command[0], command, mlflow_environment())  # noqa: S606  # an argument list of ours, no shell


def sync(sweep: SweepArgument = None) -> None:
    """Deliver to MLflow what it has not got yet.

    For instance because it was away while the sweep ran. Delivering twice changes nothing.
    """
    import subprocess

    from service.sweeps.folders import find
    from service.sweeps.launch import is_running

    found = find(settings.home(), sweep)
    if is_running(settings.home(), found):
        typer.echo(f"{found.id} is running: its own driver delivers to MLflow")
        return
    command = [sys.executable, "-P", "-m", "service.tuning.tracking", str(found.folder), "--home", str(settings.home())]
    done = subprocess.run(command, check=False)
    if done.returncode == 0:
        typer.echo(f"MLflow has everything of {found.id}")
    raise typer.Exit(1 if done.returncode else 0)


def _page(place: Place, sweep: str | None) -> Path:
    """The report's page: of a server's sweep, a copy under the data folder."""
    with place.opened() as client:
        if client is None:
            return _report_file(sweep, "report/report.html")
        from service.cli.remote_sweeps import the_sweep

        sweep_id = the_sweep(client, sweep)
        path = settings.home() / "reports" / f"{sweep_id}.html"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(client.report_page(sweep_id))
        return path


def _report_file(text: str | None, name: str) -> Path:
    """A file of the sweep's report: as its driver left it at the end, or written now as far as its record tells."""
    from service.spec.sweep_spec import SweepSpec
    from service.sweeps.folders import find
    from service.sweeps.launch import FINAL_STATES, state
    from service.tuning.outcome import write_report
    from service.tuning.sweep_folder import read_job

    sweep = find(settings.home(), text)
    is_final = state(settings.home(), sweep) in FINAL_STATES and sweep.path(name).exists()
    if not is_final and sweep.path("ledger").exists():
        write_report(sweep.folder, SweepSpec.from_dict(read_job(sweep.folder).spec))
    if not sweep.path(name).exists():
        msg = (
            f"no trial of {sweep.id} has reported yet, so there is no {name}; watch it with `tuneyard watch {sweep.id}`"
        )
        raise SweepNotFoundError(msg)
    return sweep.path(name)
