"""Background threads that work ahead of a loop, in its order."""

import contextlib
import threading

import pytest
import torch

from fmbseg.ahead import ahead


@pytest.mark.parametrize("count", [1, 3, 16])
def test_answers_come_in_order_and_so_many_are_made_ahead(count: int) -> None:
    begun, everything = [], threading.Event()

    def double(item: int) -> int:
        begun.append(item)
        if len(begun) == count + 1:
            everything.set()
        return 2 * item

    pairs = ahead(range(40), double, count)
    found = [next(pairs)]
    assert everything.wait(10), "the next ones are made before they are asked for"
    assert len(begun) == count + 1
    assert [*found, *pairs] == [(item, 2 * item) for item in range(40)]
    assert list(ahead([], double, count)) == []


def test_a_failure_comes_at_its_place_and_what_was_not_begun_is_left_out() -> None:
    begun, before = [], threading.active_count()

    def read(item: int) -> int:
        begun.append(item)
        if item == 3:
            raise KeyboardInterrupt
        return item

    pairs = ahead(range(100), read, 2)
    assert [next(pairs) for _ in range(3)] == [(0, 0), (1, 1), (2, 2)]
    with pytest.raises(KeyboardInterrupt):
        next(pairs)
    assert begun[:4] == [0, 1, 2, 3]
    assert len(begun) <= 6
    assert threading.active_count() <= before


def test_a_loop_that_ends_early_ends_the_threads() -> None:
    before, begun = threading.active_count(), list[int]()
    with contextlib.closing(ahead(range(100), begun.append, 4)) as pairs:
        assert next(pairs) == (0, None)
    assert threading.active_count() == before
    assert len(begun) <= 10


def test_background_threads_have_the_callers_number_of_torch_threads() -> None:
    before = torch.get_num_threads()
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            assert list(ahead("a", lambda _: torch.get_num_threads())) == [("a", count)]
    finally:
        torch.set_num_threads(before)
