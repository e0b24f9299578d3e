"""What is done ahead by background threads, such as reading pixels while the device computes."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")
_THREADS = 4


def ahead(
    items: Iterable[T], make: Callable[[T], R], count: int = 1
) -> Generator[tuple[T, R], None, None]:
    """Every item with what `make` makes of it, in order, some of them made ahead.

    What `make` raises is raised when its item's turn comes. Where the iteration ends before, the
    items that were not begun are left out.

    Args:
        items: asked for by the caller's thread.
        make: called by background threads, with the caller's number of torch threads.
        count: so many items are made ahead, at most; so many answers wait in memory.
    """
    import torch  # whoever only asks whether there is something to do does not wait for it

    waiting: deque[tuple[T, Future[R]]] = deque()
    with ThreadPoolExecutor(
        min(count, _THREADS), "ahead", torch.set_num_threads, (torch.get_num_threads(),)
    ) as threads:
        try:
            for item in items:
                waiting.append((item, threads.submit(make, item)))
                if len(waiting) > count:
                    first, made = waiting.popleft()
                    yield first, made.result()
            while waiting:
                first, made = waiting.popleft()
                yield first, made.result()
        except BaseException:  # Ctrl-C and an iteration that ends early, too
            threads.shutdown(wait=False, cancel_futures=True)
            raise
