"""What MLflow accepts as keys and values, so that no name a user may log is refused or collides with another."""

from __future__ import annotations

import json
import math
import posixpath
import re
import zlib
from typing import Any, Final

MAX_KEY: Final = 250  # characters, MLflow's limit for the keys of metrics, parameters and tags
MAX_PARAM: Final = 6000
MAX_TAG: Final = 8000
_FORBIDDEN: Final = re.compile(r"[^\w\-. :/]")
_CUT: Final = " … (cut)"


def clean_key(name: str) -> str:
    r"""`name` itself where MLflow takes it, else a readable stand-in that ends in a checksum of the original.

    MLflow takes `[\w\-. :/]`, at most 250 characters, and only what is a normalised relative path.
    """
    key = _FORBIDDEN.sub("_", name)
    if not _is_path(key):
        key = key.replace("/", "_").strip(".") or "_"
    if key == name and len(name) <= MAX_KEY:
        return key
    return f"{key[: MAX_KEY - 9]}-{zlib.crc32(name.encode()):08x}"


def param_text(value: Any) -> str:  # noqa: ANN401  # a hyperparameter is any JSON value
    """A hyperparameter as MLflow stores it: strings bare, everything else as JSON, at most 6000 characters."""
    return cut(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), MAX_PARAM)


def tag_text(value: object) -> str:
    """A tag's text, at most 8000 characters."""
    return cut(str(value), MAX_TAG)


def cut(text: str, limit: int) -> str:
    """`text`, or its beginning with a note that something is missing."""
    return text if len(text) <= limit else text[: limit - len(_CUT)] + _CUT


def metric_value(value: float, *, diverged: bool) -> float:
    """A value that plots keep their scale with: infinities and a diverged trial's sentinel become NaN."""
    return math.nan if math.isinf(value) or (diverged and abs(value) >= 1e30) else value  # noqa: PLR2004  # see trial.py


def milliseconds(at: float) -> int:
    """MLflow's unit of time for a ledger time in seconds."""
    return round(at * 1000)


def _is_path(key: str) -> bool:
    normal = posixpath.normpath(key)
    return normal == key and normal != "." and not normal.startswith(("..", "/"))
