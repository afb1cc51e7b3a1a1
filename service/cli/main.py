"""The command line: gathers the commands, and turns every error made on purpose into clean text and an exit code.

Exit codes: 0 done · 1 the sweep, a backend or a disk failed · 2 what was given is wrong · 3 stopped from elsewhere ·
130 stopped with Ctrl-C.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from service.cli import (
    audit,
    begin,
    doctor,
    extend,
    look,
    project,
    quota,
    replay,
    run,
    serve,
    show,
    spec,
    steer,
    submit,
    token,
    webhook,
)
from service.cli.text import examples
from service.errors import ContextError, SpecError, SweepNotFoundError, TuneyardError
from service.settings import HOME_VARIABLE, use_data_dir

app = typer.Typer(
    name="tuneyard",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(value: bool) -> None:
    if value:
        from importlib.metadata import version

        typer.echo(f"tuneyard {version('tuneyard')}")
        raise typer.Exit


@app.callback(
    epilog=examples("tuneyard run sweep.yaml", "tuneyard login URL && tuneyard submit sweep.yaml --follow"),
)
def common_options(
    data_dir: Annotated[
        Path | None,
        typer.Option(help=f"Where sweeps and MLflow's store live [default: ${HOME_VARIABLE}, else ~/.tuneyard]"),
    ] = None,
    version: Annotated[  # noqa: ARG001  # its callback does the work
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Tune PyTorch Lightning models: one YAML file, one command, every trial in MLflow."""
    use_data_dir(data_dir)


for module in (
    run,
    serve,
    extend,
    submit,
    show,
    look,
    steer,
    replay,
    spec,
    begin,
    doctor,
    token,
    project,
    quota,
    webhook,
    audit,
):
    module.register(app)


def main() -> None:
    """Run the command line; the console script `tuneyard`."""
    try:
        app()
    except KeyboardInterrupt:
        _fail("stopped", 130)
    except (SpecError, SweepNotFoundError, ContextError) as error:
        _fail(str(error), 2)
    except TuneyardError as error:
        _fail(str(error), 1)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of a pipe has left: nothing more to say, and no complaint at exit
    except OSError as error:
        if error.filename is None or error.strerror is None:
            raise
        _fail(f"{error.filename}: {error.strerror}", 1)  # a disk that is full, a folder that is somebody else's


def _fail(text: str, code: int) -> None:
    sys.stderr.write(f"tuneyard: {text}\n")
    sys.exit(code)


if __name__ == "__main__":
    main()
