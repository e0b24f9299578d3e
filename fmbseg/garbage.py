"""Python's search for reference cycles, made rare in programs that load large libraries."""

import atexit
import gc

_NEW_OBJECTS = 50_000


def search_rarely() -> None:
    """Search after 50,000 new objects in place of 700, and not at all as the interpreter ends.

    torch, Prefect and MLflow make 650,000 objects that stay until the end, among which every search
    finds nothing: 3 of the 9 seconds that a process takes that only imports them. To be called by
    programs as they start; tensors are freed by reference counts, whatever is set here.
    """
    gc.set_threshold(_NEW_OBJECTS)
    atexit.register(gc.freeze)
