"""What the ingress counts, for Prometheus: answers and times of each endpoint, refusals of its own, requests that wait,
and how far the workers are behind.

Counted is only what has a known endpoint, so that nobody can make up labels. `GET /metrics` shows all of it, `GET
.../serving-endpoints/{name}/metrics` one endpoint's part.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import Metric

from pipeline.ingress.health import Health

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)


class Metrics:
    """A registry of its own, so that several can live in one process (tests)."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._answers = Counter(
            "sluice_requests", "Answers to requests, by endpoint and status", ["endpoint", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "sluice_request_seconds", "From the request's arrival to its answer", ["endpoint"], buckets=BUCKETS_S, registry=self.registry
        )
        self._refused = Counter(
            "sluice_ingress_refused", "Requests that the ingress refused itself", ["error_code", "status"], registry=self.registry
        )
        self.waiting = Gauge("sluice_ingress_waiting", "Requests that wait for their answer", registry=self.registry)
        self._unfinished = Gauge(
            "sluice_unfinished", "Records that the workers have not finished: waiting or under way", ["topic"], registry=self.registry
        )
        self._wait = Gauge(
            "sluice_expected_wait_seconds", "What a new request waits in front of the workers, at the worst", registry=self.registry
        )
        self.abandoned = Counter("sluice_ingress_abandoned", "Requests whose client went away", registry=self.registry)

    def show(self, health: Health) -> None:
        """Show what `health` knows of the workers' queues, as it is at the moment of asking."""
        for topic in health.unfinished:
            self._unfinished.labels(topic).set_function(partial(health.unfinished_of, topic))
        self._wait.set_function(lambda: health.wait_s)

    def answered(self, endpoint: str, status_code: int, seconds: float) -> None:
        """Count an answer that came over the stream."""
        self._answers.labels(endpoint, str(status_code)).inc()
        self._seconds.labels(endpoint).observe(seconds)

    def refused(self, error_code: str, status_code: int) -> None:
        """Count an error that the ingress itself has found."""
        self._refused.labels(error_code, str(status_code)).inc()

    def text(self) -> bytes:
        """Everything, in Prometheus' text format."""
        return generate_latest(self.registry)

    def text_of(self, endpoint: str) -> bytes:
        """What is counted of one endpoint, in the same format."""
        return generate_latest(_OneEndpoint(self.registry, endpoint))


class _OneEndpoint:
    """A registry's view that holds the samples of one endpoint only."""

    def __init__(self, registry: CollectorRegistry, endpoint: str) -> None:
        self._registry, self._endpoint = registry, endpoint

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            samples = [s for s in metric.samples if s.labels.get("endpoint") == self._endpoint]
            if samples:
                kept = Metric(metric.name, metric.documentation, metric.type, metric.unit)
                kept.samples = samples
                yield kept
