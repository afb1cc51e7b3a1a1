"""Where a user's data lie: one path, and another one where the test part is given."""

from __future__ import annotations

from pathlib import Path

from trainables.data.faults import refuse


def given_paths(path: str, test_path: str) -> list[Path]:
    """The path of the data, then that of the test part where there is one; DataError where the first is empty."""
    if not path:
        refuse("path", "it is empty", "name a file or a folder that is on the machine that trains")
    return [Path(one) for one in (path, test_path) if one]
