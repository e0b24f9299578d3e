"""Requests take turns: a bounded number is inside, and one of them is computed at a time.

One computation has all cores already; a second one beside it would take as much memory again.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from fmbseg.serving.refused import RefusedError

_AGAIN_S = 1

Value = TypeVar("Value")


class Turns:
    """The places of a server.

    Attributes:
        inside: requests that hold a place now.
    """

    def __init__(self, places: int, timeout_s: float) -> None:
        """Nobody is inside.

        Args:
            places: requests that are read, wait or are computed.
            timeout_s: for the answer of one that has been read.
        """
        self._places, self._timeout_s = places, timeout_s
        self._lock = threading.Lock()
        self._worker = ThreadPoolExecutor(1, "segment")
        self.inside = 0

    def enter(self) -> None:
        """Take a place.

        Raises:
            RefusedError: all are taken.
        """
        with self._lock:
            if self.inside >= self._places:
                raise RefusedError(
                    503, "the server is busy", f"{self.inside} requests under way",
                    "this one again a little later", {"Retry-After": str(_AGAIN_S)},
                )  # fmt: skip
            self.inside += 1

    def leave(self) -> None:
        """Give the place back."""
        with self._lock:
            self.inside -= 1

    def begin(self, work: Callable[[], Value]) -> "Future[Value]":
        """Let work wait for its turn; its place is given back when it ends, however it ends."""
        begun = self._worker.submit(work)
        begun.add_done_callback(lambda _: self.leave())
        return begun

    async def result(self, begun: "Future[Value]") -> Value:
        """What became of the work.

        Raises:
            RefusedError: it took too long. What waits is dropped; what is being computed cannot
                be stopped and keeps its place to its end.
        """
        try:
            return await asyncio.wait_for(asyncio.wrap_future(begun), self._timeout_s)
        except TimeoutError:
            raise RefusedError(
                504, "no answer in time", f"more than {self._timeout_s:g} s",
                "a smaller picture, fewer classes, or another try later",
            ) from None  # fmt: skip
