"""Requests take turns: a bounded number is inside, and one computation runs at a time.

One computation has all cores already; a second one beside it would take as much memory again.
Requests that wait are computed together where the computation is glad of several.
"""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Generic, TypeVar

from fmbseg.serving.refused import RefusedError

_AGAIN_S = 1

Job = TypeVar("Job")
Value = TypeVar("Value")


class Turns(Generic[Job, Value]):
    """The places of a server.

    Attributes:
        inside: requests that hold a place now.
    """

    def __init__(
        self,
        places: int,
        timeout_s: float,
        compute: Callable[[Sequence[Job]], Iterator[Value | Exception]],
        at_once: int = 1,
    ) -> None:
        """Nobody is inside.

        Args:
            places: requests that are read, wait or are computed.
            timeout_s: for the answer of one that has been read.
            compute: from jobs to what became of each, in order; only ever in one thread.
            at_once: so many jobs that wait are computed together, at most.
        """
        self._places, self._timeout_s = places, timeout_s
        self._compute, self._at_once = compute, at_once
        self._waiting: dict[Future[Value], Job] = {}  # in order
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

    def begin(self, job: Job) -> "Future[Value]":
        """Let a job wait for its turn; its place is given back when it ends, however it ends."""
        begun = Future[Value]()
        with self._lock:
            self._waiting[begun] = job
        begun.add_done_callback(self._ended)
        self._worker.submit(self._next)
        return begun

    def _ended(self, one: "Future[Value]") -> None:
        with self._lock:  # who gave up waiting leaves no body behind
            self._waiting.pop(one, None)
        self.leave()

    def _next(self) -> None:
        """Compute the next job with those that wait behind it."""
        jobs: list[Job] = []
        futures: list[Future[Value]] = []
        with self._lock:
            some = list(islice(self._waiting.items(), self._at_once))
            for future, _ in some:
                del self._waiting[future]
        for future, job in some:
            if future.set_running_or_notify_cancel():
                jobs.append(job)
                futures.append(future)
        if not jobs:  # those of this turn went with an earlier one, or nobody waits any more
            return
        try:
            for future, value in zip(futures, self._compute(jobs), strict=True):
                if isinstance(value, Exception):
                    future.set_exception(value)
                else:
                    future.set_result(value)
        except BaseException as error:
            for future in futures:
                if not future.done():
                    future.set_exception(error)

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
