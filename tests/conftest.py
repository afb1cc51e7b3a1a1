"""What every test shares: a quiet environment that reaches no other Ray cluster, and a data folder of its own."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from cluster import ray_head

pytest_plugins = ["tests.databases", "tests.object_store"]

# Before anything imports ray or mlflow: no telemetry, no cluster that happens to run on this machine, no prompt.
os.environ.pop("RAY_ADDRESS", None)
os.environ.pop("MLFLOW_TRACKING_URI", None)
os.environ.update(
    {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_AUTH_MODE": "disabled",
        "RAY_USAGE_STATS_ENABLED": "0",
        "NO_COLOR": "1",
        "COLUMNS": "200",
    }
)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background jobs ignore it, and hand that on
    signal.signal(signal.SIGINT, signal.default_int_handler)
# The same examples each time, and no limit on how long one may take: that says more of the machine than of the code.
settings.register_profile(
    "calm", deadline=None, database=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("calm")


@pytest.fixture(autouse=True)
def _draws() -> None:
    """Each test has torch draw the same numbers every time: it begins with others in each process."""
    if "torch" in sys.modules:  # most tests need none, and to import it takes seconds
        sys.modules["torch"].manual_seed(0)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder for one test, which is also what the command line takes as its default."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("TUNEYARD_HOME", str(folder))
    return folder


@pytest.fixture(scope="session")
def root() -> Path:
    """The top of the source tree."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def ray(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ray_head.RayHead]:
    """A Ray for jobs, started once for all tests that want one."""
    folder = tmp_path_factory.mktemp("ray")
    yield ray_head.own(folder, cpus=2)
    ray_head.end(folder)
