"""The settings that Ray and Tune read from the environment while they are imported; put there by the driver."""

from __future__ import annotations

import os
import secrets
from typing import Final

_SETTINGS: Final = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "TUNE_FORCE_TRIAL_CLEANUP_S": "20",  # of a worker that does not end by itself; ten minutes otherwise
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_RESULT_BUFFER_LENGTH": "1",
    "TUNE_WARN_THRESHOLD_S": "5",
}


def prepare(*, is_own: bool) -> None:
    """Quiet Tune, and give this driver's own Ray a secret that goes with it; a cluster that is joined has its own."""
    os.environ.update(_SETTINGS)
    if is_own:
        os.environ.update(RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=secrets.token_hex(32))


def grows() -> bool:
    """Whether the cluster that is joined makes nodes for what waits: what it has now says nothing of what fits."""
    return os.environ.get("TUNEYARD_CLUSTER_GROWS") == "1"


def joined_address(address: str) -> str:
    """HOST:PORT of the cluster to join; for `auto` the one that runs this job, as Ray says it."""
    return os.environ.get("RAY_ADDRESS", address) if address == "auto" else address
