"""Work that a thread of its own does again and again: no single round that goes wrong may be the last one."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

log: Final = logging.getLogger(__name__)


def rounds(work: Callable[[], None], over: threading.Event, period_s: float) -> None:
    """Do `work` every `period_s` until `over` is set, whatever it raises; the same trouble is logged once in a row."""
    said = ""
    while not over.wait(period_s):
        try:
            work()
            said = ""
        except OSError:  # a full disk, whose trouble whoever needs it tells: the next round tries again
            continue
        except Exception as error:
            if repr(error) != said:
                log.exception("what is done beside the sweep went wrong; it is tried again")
            said = repr(error)
