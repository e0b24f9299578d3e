"""Turns of requests: one computation at a time, what waits goes together, nothing stays behind."""

import asyncio
import gc
import threading
import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from fmbseg.serving.refused import RefusedError
from fmbseg.serving.turns import Turns


class Work:
    """A computation that waits for leave, and remembers what it was given."""

    def __init__(self) -> None:
        self.leave, self.begun = threading.Event(), threading.Event()
        self.given: list[list[Any]] = []

    def __call__(self, jobs: Sequence[Any]) -> Iterator[Any]:
        self.given.append(list(jobs))
        self.begun.set()
        assert self.leave.wait(9)
        for job in jobs:
            yield ValueError(job) if job == "bad" else job
            if job == "last":
                raise MemoryError


def begun(turns: Turns[Any, Any], *jobs: Any) -> list[Any]:
    for _ in jobs:
        turns.enter()
    return [turns.begin(job) for job in jobs]


def test_jobs_that_wait_are_computed_together_so_many_at_once_and_in_order():
    work = Work()
    turns = Turns(9, 9, work, at_once=3)
    first = begun(turns, 0)
    assert work.begun.wait(9)
    rest = begun(turns, 1, 2, 3, 4)
    work.leave.set()
    assert [one.result(9) for one in first + rest] == [0, 1, 2, 3, 4]
    assert work.given == [[0], [1, 2, 3], [4]]
    assert turns.inside == 0


def test_without_leave_for_several_each_job_is_computed_by_itself():
    work = Work()
    work.leave.set()
    turns = Turns(9, 9, work)
    assert [one.result(9) for one in begun(turns, 1, 2, 3)] == [1, 2, 3]
    assert work.given == [[1], [2], [3]]


def test_a_job_that_fails_does_so_alone_and_a_computation_that_breaks_off_leaves_nobody_waiting():
    work = Work()
    turns = Turns(9, 9, work, at_once=9)
    first = begun(turns, 0)
    assert work.begun.wait(9)
    bad, good, last, lost = begun(turns, "bad", "good", "last", "lost")
    work.leave.set()
    with pytest.raises(ValueError, match="bad"):
        bad.result(9)
    assert (first[0].result(9), good.result(9), last.result(9)) == (0, "good", "last")
    with pytest.raises(MemoryError):
        lost.result(9)
    assert turns.inside == 0
    assert begun(turns, 5)[0].result(9) == 5


class Body:
    """What a client sent; it can be seen to be gone."""


def test_who_gives_up_waiting_leaves_neither_place_nor_body_behind():
    work = Work()
    turns = Turns(9, 0.05, work, at_once=9)
    running = begun(turns, 0)
    assert work.begun.wait(9)
    body = Body()
    seen = weakref.ref(body)
    waiting = begun(turns, body)
    del body
    with pytest.raises(RefusedError, match=r"more than 0\.05 s"):
        asyncio.run(turns.result(waiting[0]))
    assert turns.inside == 1
    gc.collect()
    assert seen() is None
    work.leave.set()
    assert running[0].result(9) == 0
    assert begun(turns, 7)[0].result(9) == 7
    assert work.given == [[0], [7]]
