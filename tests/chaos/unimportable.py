"""Training code that cannot be imported, as a user's may be."""

from __future__ import annotations

MESSAGE = "the training code cannot be imported: no module of that name on this node"
raise ImportError(MESSAGE)
