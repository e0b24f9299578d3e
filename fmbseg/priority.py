"""Who goes first where threads of a program want more processors than there are."""

import os
import sys
import threading

_STEPS = 4
"""Linux gives a thread 4 steps behind two fifths of the time: two of them weigh less than one."""


def step_back() -> None:
    """Let other threads go first, for the rest of a worker's thread.

    Only Linux knows priorities of threads. They cannot be raised again, so the main thread, which
    goes on to other work, keeps its own.
    """
    if sys.platform == "linux" and threading.current_thread() is not threading.main_thread():
        own = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, own, min(os.getpriority(os.PRIO_PROCESS, own) + _STEPS, 19))
