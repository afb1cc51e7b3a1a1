"""Python imports this at the start of every process of an arena: it arms what the fault has put in the environment."""

from __future__ import annotations

import os

if "CHAOS_CRASH" in os.environ:
    from tests.chaos import crash_points

    crash_points.arm()
if "CHAOS_SEARCHER" in os.environ:
    from tests.chaos import bad_searcher

    bad_searcher.install()
