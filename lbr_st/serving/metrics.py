"""Counters of the server, in the text form of Prometheus (exposition format 0.0.4)."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
REQUESTS, SECONDS = "lbr_requests_total", "lbr_request_seconds"
TEXTS, TOKENS, CUT = "lbr_texts_total", "lbr_tokens_total", "lbr_texts_cut_total"
BATCHES, ENCODING = "lbr_batches_total", "lbr_encoding_seconds_total"
HELP = {
    REQUESTS: "Requests that were answered, by path and status.",
    TEXTS: "Texts that were encoded, by role.",
    TOKENS: "Tokens that the model read, by role.",
    CUT: "Texts of requests that are longer than the model reads.",
    BATCHES: "Times that the texts of all who waited were encoded together.",
    ENCODING: "Seconds that the model worked.",
}
# Upper bounds of seconds that requests are counted by.
BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

Labels = tuple[tuple[str, str], ...]


class Metrics:
    """Counts what the server does; any thread may count."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, Labels]] = Counter()
        self._buckets: Counter[float] = Counter()
        self._seconds = 0.0

    def count(self, name: str, number: float = 1, **labels: str) -> None:
        """Add to a counter.

        Args:
            name: One of those in `HELP`.
            number: What is added.
            **labels: What it is counted by.
        """
        with self._lock:
            self._counts[name, tuple(sorted(labels.items()))] += number  # type: ignore[assignment]

    def observe(self, seconds: float) -> None:
        """Count a request by the seconds that it took."""
        with self._lock:
            self._buckets[next((bound for bound in BOUNDS if seconds <= bound), float("inf"))] += 1
            self._seconds += seconds

    def __str__(self) -> str:
        return self.text({})

    def text(self, gauges: Mapping[str, tuple[str, float]]) -> str:
        """Return all of it as Prometheus reads it.

        Args:
            gauges: Numbers of this moment, by name, with what they are.
        """
        with self._lock:
            counts, buckets, seconds = sorted(self._counts.items()), self._buckets.copy(), self._seconds
        lines = []
        for name, what in HELP.items():
            lines += [f"# HELP {name} {what}", f"# TYPE {name} counter"]
            lines += [f"{name}{_braces(labels)} {_number(value)}" for (of, labels), value in counts if of == name]
        lines += [f"# HELP {SECONDS} Seconds from a request to its answer.", f"# TYPE {SECONDS} histogram"]
        total = 0
        for bound in (*BOUNDS, float("inf")):
            total += buckets[bound]
            lines.append(f'{SECONDS}_bucket{{le="{"+Inf" if bound == float("inf") else bound}"}} {total}')
        lines += [f"{SECONDS}_sum {_number(seconds)}", f"{SECONDS}_count {total}"]
        for name, (what, value) in gauges.items():
            lines += [f"# HELP {name} {what}", f"# TYPE {name} gauge", f"{name} {_number(value)}"]
        return "\n".join(lines) + "\n"


def _braces(labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{value}"' for name, value in labels) + "}" if labels else ""


def _number(value: float) -> str:
    return str(int(value)) if float(value).is_integer() else repr(float(value))
