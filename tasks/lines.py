"""What a run says in Prefect's pages: a line for every finished unit, one for every failure."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect import get_run_logger
from prefect.exceptions import MissingContextError
from prefect.logging.loggers import LoggingAdapter

from fmbseg.steps.workspace import Workspace


@contextmanager
def reason_first() -> Iterator[None]:
    """Log why a block failed in one line, before Prefect logs the trace."""
    try:
        yield
    except Exception as error:
        _log().error("%s", one_line(error))
        raise


def _log() -> logging.Logger | LoggingAdapter:
    """The run's logger; a plain one where the code is called outside a run."""
    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger("fmbseg")


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
    """Run a unit inside a task and log its line.

    Args:
        workspace: the run's.
        unit: what the line calls it.
        folder: its output.
        run: makes it; True when there was something to do.
        result: what to say of it, from its line in the journal.

    Returns:
        The folder.
    """
    with reason_first():
        computed = run()
    said = "up to date by now"
    if computed:
        place = str(folder.relative_to(workspace.root))
        lines = reversed(workspace.journal.lines())
        line = next((line for line in lines if line["unit"] == place), {"seconds": 0.0})
        said = f"{line['seconds']:.0f} s"
        if result is not None:
            said = f"{result(line)}, {said}"
    _log().info("%s: %s", unit, said)
    return str(folder)
