"""Ctrl-C during a run: the first press lets what is under way end, the second does not wait."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from fmbseg.errors import STOPPED

GOES_ON = "nothing finished is lost; the same command goes on"


@contextmanager
def stops_twice() -> Iterator[None]:
    """The first Ctrl-C raises KeyboardInterrupt and says so, a second one ends the process.

    After the first, threads may take a while to end their units. A shell's background jobs ignore
    Ctrl-C; they go on doing so.
    """
    before = signal.getsignal(signal.SIGINT)

    def at_once(*_: object) -> None:
        os._exit(STOPPED)

    def soon(*_: object) -> None:
        signal.signal(signal.SIGINT, at_once)
        print(f"\nfmbseg: stopping (Ctrl-C again: at once); {GOES_ON}", file=sys.stderr)
        raise KeyboardInterrupt

    if before is signal.default_int_handler:
        signal.signal(signal.SIGINT, soon)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
