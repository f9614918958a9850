"""What the switch counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from pipelines.switch_plan import Comparison

_SECONDS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_DIFFERENCES = (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.05, 0.1, 0.2, 0.5, 1.0)
# Labels that are told apart; a bento that answers others would cost memory for ever.
_MOST_PAIRS = 400


class Figures:
    """Counters of one switch, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "ecgbeats_switch_requests",
            "Answers to clients, by who gave them.",
            ["by", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "ecgbeats_switch_seconds",
            "Time of an answer, the switch included.",
            ["by"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.failures = Counter(
            "ecgbeats_switch_upstream_failures",
            "Tries that broke or answered 5xx; the client got another's answer if there was one.",
            ["by"],
            registry=self.registry,
        )
        self.in_flight = Gauge(
            "ecgbeats_switch_in_flight",
            "Requests that a bento is busy with, shadow included.",
            ["url"],
            registry=self.registry,
        )
        self.ready = Gauge(
            "ecgbeats_switch_ready",
            "Whether it answered /readyz last time.",
            ["by"],
            registry=self.registry,
        )
        self.share = Gauge(
            "ecgbeats_switch_share", "As in the plan.", ["mode"], registry=self.registry
        )
        self.shadowed = Counter(
            "ecgbeats_switch_shadow",
            "Copies, by what came of them: same, different, status (another one than the "
            "champion's), failed, dropped (the queue was full), skipped (nothing to compare).",
            ["outcome"],
            registry=self.registry,
        )
        self.beats = Counter(
            "ecgbeats_switch_shadow_beats",
            "Compared beats by the label of each.",
            ["champion", "challenger"],
            registry=self.registry,
        )
        self.difference = Histogram(
            "ecgbeats_switch_shadow_difference",
            "Largest difference of a probability, of each compared answer.",
            buckets=_DIFFERENCES,
            registry=self.registry,
        )
        self._pairs: set[tuple[str, str]] = set()

    def compared(self, found: Comparison) -> None:
        self.shadowed.labels("same" if found.agrees else "different").inc()
        self.difference.observe(found.largest_difference)
        for pair, count in found.pairs.items():
            if pair not in self._pairs and len(self._pairs) >= _MOST_PAIRS:
                pair = ("other", "other")
            self._pairs.add(pair)
            self.beats.labels(*pair).inc(count)
