"""What Prometheus is told: requests, their times, open streams, sweeps in each state, and how the controller does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

MEDIA_TYPE: Final = CONTENT_TYPE_LATEST
_OF_CONTROLLER: Final = {
    "controller_leads": "Whether the controller of this replica is the one that acts.",
    "controller_pass_age_seconds": "Time since a pass of the controller last came to its end.",
    "cluster_reachable": "Whether the cluster answers, as the controller that acts has last seen it.",
}
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Metrics:
    """The figures of one application. When somebody looks, `counts` gives the number of sweeps in each state.

    `figures` are those of the controller, by the names that `_OF_CONTROLLER` has.
    """

    def __init__(
        self, counts: Callable[[], Mapping[str, int]], figures: Callable[[], Mapping[str, float]] = dict
    ) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        labels = ("method", "route", "status")
        self._requests = Counter("tuneyard_http_requests", "Requests answered.", labels, registry=self._registry)
        self._seconds = Histogram(
            "tuneyard_http_request_seconds", "Time until a request was answered.", ("method", "route"),
            buckets=_SECONDS, registry=self._registry,
        )  # fmt: skip
        self.streams = Gauge("tuneyard_http_streams", "Open event and log streams.", registry=self._registry)
        self._registry.register(_Sweeps(counts))
        self._registry.register(_Controller(figures))

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answer; `route` is the path's pattern, so that the number of series stays small."""
        self._requests.labels(method, route, str(status)).inc()
        self._seconds.labels(method, route).observe(seconds)

    def text(self) -> bytes:
        """Everything in Prometheus' text format."""
        return generate_latest(self._registry)


class _Sweeps(Collector):
    def __init__(self, counts: Callable[[], Mapping[str, int]]) -> None:
        self._counts = counts

    def collect(self) -> Iterable[GaugeMetricFamily]:
        family = GaugeMetricFamily("tuneyard_sweeps", "Sweeps by state.", labels=["state"])
        for state, count in self._counts().items():
            family.add_metric([state], count)
        yield family


class _Controller(Collector):
    def __init__(self, figures: Callable[[], Mapping[str, float]]) -> None:
        self._figures = figures

    def collect(self) -> Iterable[GaugeMetricFamily]:
        found = self._figures()
        for name, about in _OF_CONTROLLER.items():
            if name in found:
                yield GaugeMetricFamily(f"tuneyard_{name}", about, value=found[name])
