"""What a server has done so far, in Prometheus' text format."""

import threading
from bisect import bisect_left
from collections import Counter

_BOUNDS_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class Counts:
    """Counters of `POST /segment`; they start at 0 with the process."""

    def __init__(self) -> None:
        """Nothing is counted yet."""
        self._lock = threading.Lock()
        self._requests: Counter[int] = Counter()
        self._buckets = [0] * (len(_BOUNDS_S) + 1)
        self._seconds, self._pixels = 0.0, 0

    def add(self, status: int, seconds: float, pixels: int = 0) -> None:
        """Count a request that was answered.

        Args:
            status: of HTTP.
            seconds: from its first byte to its answer.
            pixels: of its picture, where it was labelled.
        """
        with self._lock:
            self._requests[status] += 1
            self._buckets[bisect_left(_BOUNDS_S, seconds)] += 1
            self._seconds += seconds
            self._pixels += pixels

    def text(self, inside: int, encoded: int = 0, known: int = 0) -> str:
        """All of them, as `GET /metrics` answers.

        Args:
            inside: requests that are under way.
            encoded: pictures that have gone through the encoder.
            known: answers made from features that were kept.
        """
        with self._lock:
            lines = ["# TYPE fmbseg_requests_total counter"]
            lines += [
                f'fmbseg_requests_total{{status="{status}"}} {count}'
                for status, count in sorted(self._requests.items())
            ]
            lines += ["# TYPE fmbseg_request_seconds histogram"]
            total = 0
            for bound, count in zip((*_BOUNDS_S, "+Inf"), self._buckets, strict=True):
                total += count
                lines.append(f'fmbseg_request_seconds_bucket{{le="{bound}"}} {total}')
            lines += [
                f"fmbseg_request_seconds_sum {self._seconds:.6f}",
                f"fmbseg_request_seconds_count {total}",
                "# TYPE fmbseg_pixels_total counter", f"fmbseg_pixels_total {self._pixels}",
                "# TYPE fmbseg_pictures_encoded_total counter",
                f"fmbseg_pictures_encoded_total {encoded}",
                "# TYPE fmbseg_pictures_known_total counter",
                f"fmbseg_pictures_known_total {known}",
                "# TYPE fmbseg_requests_inside gauge", f"fmbseg_requests_inside {inside}",
            ]  # fmt: skip
        return "\n".join([*lines, ""])
