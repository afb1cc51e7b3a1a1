"""Every environment variable Tuneyard reads outside a sweep's job, once, and the data folder they lead to."""

from __future__ import annotations

import os
import tempfile
from contextvars import ContextVar
from pathlib import Path
from typing import Final

HOME_VARIABLE: Final = "TUNEYARD_HOME"
PREFIX: Final = "TUNEYARD_"
_SECRETS: Final = ("PGPASSWORD", "RAY_AUTH_TOKEN")
_data_dir: ContextVar[Path | None] = ContextVar("data_dir", default=None)


def use_data_dir(folder: Path | None) -> None:
    """Prefer `folder` over the environment for the rest of this command; None leaves the choice to it."""
    _data_dir.set(folder)


def home() -> Path:
    """The data folder, absolute: `--data-dir`, else TUNEYARD_HOME, else `.tuneyard` in the user's own folder."""
    chosen = _data_dir.get() or Path(os.environ.get(HOME_VARIABLE) or "~/.tuneyard")
    return chosen.expanduser().absolute()


def variables() -> dict[str, str]:
    """Every variable TUNEYARD_<NAME> that is set to something, under its <name> in lower case."""
    given = {name: value.strip() for name, value in os.environ.items() if name.startswith(PREFIX)}
    return {name.removeprefix(PREFIX).lower(): value for name, value in given.items() if value}


def config_folder() -> Path:
    """Where a person's servers and tokens are kept: `tuneyard` in XDG_CONFIG_HOME, else in `~/.config`."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser().absolute() / "tuneyard"


def server() -> str | None:
    """TUNEYARD_SERVER: the server that commands are about, as `--server` names it."""
    return os.environ.get("TUNEYARD_SERVER") or None


def token() -> str | None:
    """TUNEYARD_TOKEN: the token for that server, where no file should hold it."""
    return os.environ.get("TUNEYARD_TOKEN", "").strip() or None  # a secret out of a file often ends its line


def python_path(*first: Path) -> str:
    """PYTHONPATH for a subprocess that has to find `first` before what the variable holds already."""
    return os.pathsep.join([*map(str, first), *filter(None, [os.environ.get("PYTHONPATH")])])


def child_environment(*first: Path) -> dict[str, str]:
    """What a process that we start gets of our environment, with `first` on its PYTHONPATH: none of our secrets.

    No TUNEYARD_ variable goes along, whatever it is for, nor the passwords to the database and to Ray.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX) and name not in _SECRETS}
    return {**kept, "PYTHONPATH": python_path(*first)}


def ray_address() -> str | None:
    """RAY_ADDRESS, with which Ray would join a cluster that happens to run; sweeps ignore it on purpose."""
    return os.environ.get("RAY_ADDRESS") or None


def tracking_uri() -> str | None:
    """MLFLOW_TRACKING_URI, which sweeps ignore in favour of `tracking.uri` in the sweep file."""
    return os.environ.get("MLFLOW_TRACKING_URI") or None


def temporary_folder() -> Path:
    """Where Ray keeps its session files, unless it is told otherwise."""
    return Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())
