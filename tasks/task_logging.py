"""What a run says in Prefect's pages: a line for every finished unit, one for every failure."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fmbseg.progress import listening
from fmbseg.steps.step import Unit
from tasks.progress import TaskProgress, run_log, say_time_left


@contextmanager
def reason_first() -> Iterator[None]:
    """Log why a block failed in one line, before Prefect logs the trace."""
    try:
        yield
    except Exception as error:
        run_log().error("%s: %s", type(error).__name__, " ".join(str(error).split()))
        raise


def run_unit(unit: Unit, run: Callable[[], bool]) -> None:
    """Run a unit inside a task and log its line; while it runs, where it is.

    Args:
        unit: what is made.
        run: makes it; True when there was something to do.
    """
    with reason_first(), listening(TaskProgress(unit.title)):
        computed = run()
    run_log().info("%s", unit.words(computed))
    if computed:
        say_time_left(str(unit.workspace.root))
