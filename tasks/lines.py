"""What a run says in Prefect's pages: a line for every finished unit, one for every failure."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fmbseg.progress import listening
from fmbseg.steps.workspace import Workspace
from tasks.progress import TaskProgress, run_log, say_time_left


@contextmanager
def reason_first() -> Iterator[None]:
    """Log why a block failed in one line, before Prefect logs the trace."""
    try:
        yield
    except Exception as error:
        run_log().error("%s", one_line(error))
        raise


def one_line(error: BaseException) -> str:
    """Kind and text of an error."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def run_unit(
    workspace: Workspace,
    unit: str,
    folder: Path,
    run: Callable[[], bool],
    result: Callable[[Mapping[str, Any]], str] | None = None,
) -> str:
    """Run a unit inside a task and log its line; while it runs, where it is.

    Args:
        workspace: the run's.
        unit: what the line calls it.
        folder: its output.
        run: makes it; True when there was something to do.
        result: what to say of it, from its line in the journal.

    Returns:
        The folder.
    """
    with reason_first(), listening(TaskProgress(unit)):
        computed = run()
    said = "up to date by now"
    if computed:
        place = str(folder.relative_to(workspace.root))
        lines = reversed(workspace.journal.lines())
        line = next((line for line in lines if line["unit"] == place), {"seconds": 0.0})
        said = f"{line['seconds']:.0f} s"
        if result is not None:
            said = f"{result(line)}, {said}"
    run_log().info("%s: %s", unit, said)
    if computed:
        say_time_left(str(workspace.root))
    return str(folder)
