"""What happened, for `/metrics` in Prometheus' text format (version 0.0.4)."""

from __future__ import annotations

from bisect import bisect_left
from typing import Final

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds in seconds of the latency histogram."""


class Metrics:
    """Counters of one server; only the front's thread touches them."""

    def __init__(self) -> None:
        self.requests: dict[tuple[str, int], int] = {}
        self.failures: dict[str, int] = {}
        self.buckets = [0] * (len(BUCKETS) + 1)
        self.latency_sum = 0.0
        self.run_sum = 0.0
        self.restarts = 0
        self.evicted = 0
        self.init_seconds = 0.0
        self.ready_seconds = 0.0

    def count(self, route: str, status: int) -> None:
        """One answer."""
        key = (route, status)
        self.requests[key] = self.requests.get(key, 0) + 1

    def fail(self, reason: str) -> None:
        """One scoring request without a result."""
        self.failures[reason] = self.failures.get(reason, 0) + 1

    def observe(self, seconds: float, run_ms: str) -> None:
        """The latency of one scoring request, waiting included, and what `run` took of it."""
        self.buckets[bisect_left(BUCKETS, seconds)] += 1
        self.latency_sum += seconds
        if run_ms:
            self.run_sum += float(run_ms) / 1000

    def exposition(self, gauges: dict[str, tuple[str, float]]) -> str:
        """The whole page; `gauges` are name -> (help, value) of this moment."""
        lines = _family("mlpkg_requests_total", "counter", "Answers, by route and status.")
        for (route, status), number in sorted(self.requests.items()):
            lines.append(f'mlpkg_requests_total{{route="{route}",status="{status}"}} {number}')
        lines += _family("mlpkg_failures_total", "counter", "Scoring requests without a result, by reason.")
        for reason, number in sorted(self.failures.items()):
            lines.append(f'mlpkg_failures_total{{reason="{reason}"}} {number}')
        lines += _family(
            "mlpkg_request_seconds", "histogram", "Latency of scoring requests, waiting included."
        )
        running = 0
        for bound, number in zip((*map(str, BUCKETS), "+Inf"), self.buckets):  # noqa: B905 - Python 3.9 has no strict=
            running += number
            lines.append(f'mlpkg_request_seconds_bucket{{le="{bound}"}} {running}')
        lines.append(f"mlpkg_request_seconds_sum {self.latency_sum:.6f}")
        lines.append(f"mlpkg_request_seconds_count {running}")
        lines += _family("mlpkg_run_seconds_total", "counter", "Time spent in run().")
        lines.append(f"mlpkg_run_seconds_total {self.run_sum:.6f}")
        lines += _family(
            "mlpkg_worker_restarts_total", "counter", "Workers that died or were killed, and started again."
        )
        lines.append(f"mlpkg_worker_restarts_total {self.restarts}")
        lines += _family(
            "mlpkg_connections_evicted_total", "counter", "Connections closed to make room for new ones."
        )
        lines.append(f"mlpkg_connections_evicted_total {self.evicted}")
        fixed = {
            "mlpkg_init_seconds": (
                "Loading the script and init(), in the worker that was last ready.",
                self.init_seconds,
            ),
            "mlpkg_ready_seconds": ("From the server's start to the first ready worker.", self.ready_seconds),
        }
        for name, (text, value) in {**fixed, **gauges}.items():
            lines += _family(name, "gauge", text)
            lines.append(f"{name} {value:g}")
        return "\n".join(lines) + "\n"


def _family(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
