"""Asks programs that import torch and the user's code, each in a process of its own: this one imports neither."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

_HERE: Final = str(Path(__file__).resolve().parents[2])


def ask(
    module: str, request: Mapping[str, Any], code_root: Path | None, timeout_s: float
) -> subprocess.CompletedProcess[str]:
    """What `main` of `module` answers to `request` (JSON, on its standard input). subprocess.TimeoutExpired.

    As `python -m module`, but a `service` folder among the user's code cannot get in its way.
    """
    program = f"import sys; sys.path.insert(0, {_HERE!r}); from {module} import main; sys.exit(main())"
    return subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout_s,
        check=False,
        cwd=code_root,
    )
