"""How MLflow is started here: its environment, the store of a data folder, and the command of its pages.

Imports mlflow only where it makes a store.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import sys
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

REQUEST_TIMEOUT_S: Final = 20
ENVIRONMENT: Final = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # two more requests and two printed lines per run otherwise
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # ten processes and 2.4 GB otherwise
    "MLFLOW_CONFIGURE_LOGGING": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # a retry below us could create a run twice
    "MLFLOW_HTTP_REQUEST_TIMEOUT": str(REQUEST_TIMEOUT_S),
}


def store_uri(home: Path) -> str:
    """The embedded store of a data folder."""
    return f"sqlite:///{home.resolve() / 'mlflow.db'}"


def artifact_root(home: Path) -> Path:
    """Where the embedded store keeps artifacts."""
    return home.resolve() / "mlartifacts"


def mlflow_environment() -> dict[str, str]:
    """This process's environment with what every MLflow process of ours needs; what the user has set wins."""
    return {**ENVIRONMENT, **os.environ}


def mlflow_ui_command(home: Path, host: str = "127.0.0.1", port: int = 5000) -> list[str]:
    """The command that serves MLflow's pages on the store under `home`; run it with `mlflow_environment()`."""
    return [
        *(sys.executable, "-m", "mlflow", "server"),
        *("--backend-store-uri", store_uri(home)),
        *("--artifacts-destination", str(artifact_root(home))),
        *("--host", host, "--port", str(port), "--workers", "1"),
    ]


def prepare_store(home: Path) -> None:
    """Make the embedded store, whole or not at all, and one that is read while it is written and syncs once a commit.

    MLflow makes its tables in some fifty steps and cannot go on after being killed between two of them, so they are
    made in a draft. SQLite keeps the journal mode in the file itself, so that every later process has it too.
    """
    home.mkdir(parents=True, exist_ok=True, mode=0o700)  # as every data folder that is made
    store = home / "mlflow.db"
    with (home / "mlflow.db.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # freed by the operating system, however its holder ends
        if not store.exists():
            draft = home / "mlflow.db.draft"
            draft.unlink(missing_ok=True)
            _make_tables(draft)
            draft.rename(store)
    # Another process may be writing just now, and some file systems have no such journal: it works without, slower.
    with contextlib.suppress(sqlite3.OperationalError), contextlib.closing(sqlite3.connect(store)) as file:
        file.execute("PRAGMA journal_mode=WAL")


def _make_tables(file: Path) -> None:
    from mlflow.store.db import utils

    made_by: Any = utils  # not annotated
    engine = made_by.create_sqlalchemy_engine(f"sqlite:///{file.resolve()}")
    try:
        made_by._initialize_tables(engine)  # noqa: SLF001  # the public way to it starts a process
    finally:
        engine.dispose()


def without_password(uri: str) -> str:
    """`uri` as it may be shown and stored."""
    parts = urlsplit(uri)
    if "@" not in parts.netloc:
        return uri
    return urlunsplit(parts._replace(netloc="***@" + parts.netloc.rsplit("@", 1)[1]))
