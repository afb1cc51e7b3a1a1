"""Waiting for storage that is full or away, instead of losing what should go there."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final, TypeVar

log: Final = logging.getLogger(__name__)
FIRST_WAIT_S: Final = 0.2
LONGEST_WAIT_S: Final = 5.0
_FINAL: Final = (FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError)
T = TypeVar("T")


def patiently(action: Callable[[], T], what: str, *, until: Callable[[], bool] = lambda: False) -> T:
    """The result of `action`, tried again for as long as storage refuses and `until` is false.

    OSErrors that waiting does not mend (a file that is not there, or is there already) are raised at once.
    """
    wait_s = FIRST_WAIT_S
    while True:
        try:
            return action()
        except _FINAL:
            raise
        except OSError as error:
            if until():
                raise
            log.warning("%s: %s; trying again in %.1f s", what, error, wait_s)
        time.sleep(wait_s)
        wait_s = min(2 * wait_s, LONGEST_WAIT_S)
