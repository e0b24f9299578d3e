"""Memory of this process: what it holds now, and the most that it has ever held."""

import sys
from pathlib import Path

from fmbseg.allocator import give_back


def held_bytes() -> int:
    """What is held now, once freed memory went back; elsewhere than on Linux the most so far."""
    give_back()
    return _resident_bytes("VmRSS:")


def peak_bytes() -> int:
    """Most that was held since the process began."""
    return _resident_bytes("VmHWM:")


def _resident_bytes(name: str) -> int:
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.partition(name)[2].split()[0]) * 1024
    except OSError:
        import resource  # here, since Windows has no such module

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024
