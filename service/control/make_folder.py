"""Makes the folder of a sweep that learns from earlier ones, in a process of its own: reading them may take long.

`python -m service.control.make_folder` reads {"home", "root", "job", "launch"} as JSON; exit code 2 with what is wrong
on stderr.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Final

from service.errors import TuneyardError
from service.sweeps.folders import create
from service.sweeps.past_sweeps import with_past
from service.tuning.storage_place import place_of
from service.tuning.sweep_folder import Job

REFUSED: Final = 2


def main() -> int:
    """Make what standard input describes."""
    request = json.load(sys.stdin)
    home, launch = Path(request["home"]), request["launch"]
    try:
        root = place_of(request["root"])
        job, past = with_past(home, Job(**request["job"]), launch["project"], root)
        create(root, job, launch, past)
    except TuneyardError as error:
        sys.stderr.write(f"{error}\n")
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
