"""What a server counts, as Prometheus reads it."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
ROWS = (1, 2, 4, 8, 16, 32, 64)


class Histogram:
    """How often a number was how large.

    Args:
        bounds: Upper bounds of its buckets, rising.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts, self._sum = [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        """Count a number."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str) -> list[str]:
        """The samples of a metric of this name."""
        found, total = list[str](), 0
        for bound, count in zip((*self._bounds, "+Inf"), self._counts, strict=True):
            total += count
            found.append(f'{name}_bucket{{le="{bound}"}} {total}')
        return [*found, f"{name}_sum {self._sum:.9g}", f"{name}_count {total}"]


class Metrics:
    """Counts of one server.

    Attributes:
        requests: Requests answered, by kind: act, plan, reset.
        refused: Connections turned away, by reason: token, full.
        errors: Connections closed, by whose fault: request, policy, slow.
        connections: Connections so far.
        infer: Times that the policy took for a group of requests [s].
        queued: Times from a request's arrival to the policy [s].
        group: Robots per forward.
    """

    def __init__(self) -> None:
        self.requests = Counter[str](act=0, plan=0, reset=0)
        self.refused = Counter[str](token=0, full=0)
        self.errors = Counter[str](request=0, policy=0, slow=0)
        self.connections = 0
        self.infer, self.queued = Histogram(SECONDS), Histogram(SECONDS)
        self.group = Histogram(ROWS)

    def text(self, num_plans: int, num_taken: int, num_rows: int) -> str:
        """All of them in Prometheus' text format.

        Args:
            num_plans: Plans made so far.
            num_taken: Rows that belong to a robot now.
            num_rows: All rows.
        """
        lines = list[str]()
        for name, label, counts, about in (
            ("requests", "kind", self.requests, "Requests answered."),
            ("refused", "reason", self.refused, "Connections turned away."),
            ("errors", "source", self.errors, "Connections closed because of an error."),
        ):
            lines += _head(f"hotloop_{name}_total", "counter", about)
            lines += [
                f'hotloop_{name}_total{{{label}="{key}"}} {num}' for key, num in counts.items()
            ]
        for name, kind, value, about in (
            ("connections_total", "counter", self.connections, "Connections so far."),
            ("plans_total", "counter", num_plans, "Plans; one for several robots counts once."),
            ("rows_taken", "gauge", num_taken, "Robots that are connected."),
            ("rows", "gauge", num_rows, "Robots that can be."),
        ):
            lines += [*_head(f"hotloop_{name}", kind, about), f"hotloop_{name} {value}"]
        for name, histogram, about in (
            ("infer_seconds", self.infer, "Time of the policy for a group of requests."),
            ("queue_seconds", self.queued, "Time of a request until the policy sees it."),
            ("group_rows", self.group, "Robots per forward."),
        ):
            lines += _head(f"hotloop_{name}", "histogram", about)
            lines += histogram.lines(f"hotloop_{name}")
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str, about: str) -> list[str]:
    return [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
