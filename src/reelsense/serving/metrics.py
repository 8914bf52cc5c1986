"""What a server counts, in a registry of its own: two servers in one process count apart."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
TEXTS = (1, 2, 4, 8, 16, 32)


@dataclass(frozen=True)
class Metrics:
    """Counters of a server. Routes are names of ours, never what a client has typed.

    requests: of a route and a status. seconds: of a route. rejected: of a code.
    """

    registry: CollectorRegistry
    requests: Callable[..., Counter]
    seconds: Callable[..., Histogram]
    texts: Counter
    batch: Histogram
    rejected: Callable[..., Counter]

    def show(self) -> bytes:
        """Return all of them in Prometheus' text format."""
        return generate_latest(self.registry)


def metrics(
    waiting: Callable[[], float], ahead: Callable[[], float], workers: Callable[[], float]
) -> Metrics:
    """Return new counters.

    The arguments tell how many pieces wait, and for how many seconds, and how many workers live.
    """
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    depth = Gauge("reelsense_queue_pieces", "Pieces of work that wait.", registry=registry)
    depth.set_function(waiting)
    queue = Gauge(
        "reelsense_queue_seconds", "Estimated wait of a request that came now.", registry=registry
    )
    queue.set_function(ahead)
    living = Gauge("reelsense_workers", "Processes that hold the model.", registry=registry)
    living.set_function(workers)
    requests = Counter(
        "reelsense_requests",
        "Requests by route and status; 499 is a client that went away.",
        ["route", "status"],
        registry=registry,
    )
    seconds = Histogram(
        "reelsense_request_seconds",
        "Seconds from the head of a request to the end of its answer.",
        ["route"],
        buckets=SECONDS,
        registry=registry,
    )
    rejected = Counter(
        "reelsense_rejected",
        "Requests that got no answer, by the code of the error.",
        ["code"],
        registry=registry,
    )
    return Metrics(
        registry,
        # prometheus-client's own search is 3% of the time of a short review with 8 clients.
        functools.cache(requests.labels),
        functools.cache(seconds.labels),
        Counter("reelsense_texts", "Texts of answered requests.", registry=registry),
        Histogram(
            "reelsense_batch_texts",
            "Texts that a worker scored together.",
            buckets=TEXTS,
            registry=registry,
        ),
        functools.cache(rejected.labels),
    )
