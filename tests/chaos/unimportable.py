"""Training code that cannot be imported, as a user's may be, until it is mended."""

from __future__ import annotations

import os
from typing import Final

from tests.chaos.trainable import train

__all__ = ["MESSAGE", "VARIABLE", "train"]
VARIABLE: Final = "CHAOS_UNIMPORTABLE"
MESSAGE: Final = "no module of that name on this node"
if VARIABLE in os.environ:
    raise ImportError(MESSAGE)
