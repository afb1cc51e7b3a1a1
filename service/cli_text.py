"""What all commands share in how they speak: examples in the help, the sweep argument with its completion."""

from __future__ import annotations

from typing import Annotated

import typer

from service import settings
from service.sweeps import every


def examples(*lines: str) -> str:
    r"""An epilog whose lines stay as they are; `\b` tells the help formatter not to join them."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def complete_sweep(incomplete: str) -> list[str]:
    """Ids of the sweeps under the data folder, for the shell."""
    return [sweep.id for sweep in every(settings.home()) if sweep.id.startswith(incomplete)]


SweepArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="[SWEEP]",
        help="A sweep's id, its name, or how its id begins [default: the newest]",
        autocompletion=complete_sweep,
        show_default=False,
    ),
]
