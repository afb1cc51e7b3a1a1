"""What a controller's passes come to, for whoever runs the service: readiness and metrics are made of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

MOST_SILENCE_S: Final = 300.0  # without a whole pass, though each may wait for a cluster that hangs


class Standing:
    """Written by one controller, read by any thread. Its words are for everybody: they name no address and no path."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._passed_at = clock()
        self.leads = False
        self.is_cluster_away = False
        self._broken = ""

    def passed(self) -> None:
        """A pass came to its end; that of one who follows asks for the lease only."""
        self._broken, self._passed_at = "", self._clock()

    def broke_off(self, error: Exception) -> None:
        """A pass did not."""
        self._broken = f"its last pass broke off with {type(error).__name__}; the log says where"

    def checks(self) -> dict[str, str]:
        """Per part, what is wrong with it, or an empty text."""
        silent_s = self._clock() - self._passed_at
        hung = f"no pass has come to its end for {silent_s:.0f} s" if silent_s > MOST_SILENCE_S else ""
        cluster = "it does not answer; the log says more" if self.leads and self.is_cluster_away else ""
        return {"controller": self._broken or hung, "cluster": cluster}

    def figures(self) -> dict[str, float]:
        """The same as numbers; of the cluster only where this replica leads, since nobody else asks it."""
        own = {"controller_leads": float(self.leads), "controller_pass_age_seconds": self._clock() - self._passed_at}
        return {**own, "cluster_reachable": float(not self.is_cluster_away)} if self.leads else own
