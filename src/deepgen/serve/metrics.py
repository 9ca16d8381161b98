"""Metrics for Prometheus. No label comes from a user."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)

SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class Metrics:
    """Counters, gauges and histograms of one server."""

    def __init__(self) -> None:
        own = self.registry = CollectorRegistry()
        self.requests = Counter(
            "deepgen_requests", "Requests answered", ["endpoint", "status"], registry=own
        )
        self.images = Counter("deepgen_images", "Images made", registry=own)
        self.queue_images = Gauge("deepgen_queue_images", "Images that wait", registry=own)
        self.running_rows = Gauge("deepgen_running_rows", "Rows of a pass", registry=own)
        self.running_tokens = Gauge("deepgen_running_tokens", "Tokens of a pass", registry=own)
        self.token_steps = Gauge(
            "deepgen_token_steps",
            "Tokens of all steps of this engine so far, contexts estimated",
            registry=own,
        )
        self.queue_seconds = Histogram(
            "deepgen_queue_seconds",
            "From request to first step",
            buckets=SECONDS,
            registry=own,
        )
        self.tick_seconds = Histogram(
            "deepgen_tick_seconds", "A tick of the engine", buckets=SECONDS, registry=own
        )
        self.first_event_seconds = Histogram(
            "deepgen_time_to_first_event_seconds",
            "From request to the first event of its stream",
            buckets=SECONDS,
            registry=own,
        )
        self.cancelled = Counter(
            "deepgen_cancelled", "Requests that ended early", ["reason"], registry=own
        )
        self.restarts = Gauge("deepgen_engine_restarts", "Restarts of the engine", registry=own)

    def text(self) -> bytes:
        """All of them, in Prometheus' text format."""
        return generate_latest(self.registry)
