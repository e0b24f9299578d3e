"""Where a long task is, in Prefect's pages: lines in its log and one progress artifact."""

import logging
import re
import sys
from typing import Any
from uuid import UUID

from prefect import get_run_logger
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.exceptions import MissingContextError
from prefect.logging.loggers import LoggingAdapter
from tqdm import tqdm

from fmbseg.progress import Report
from fmbseg.steps.time_left import time_left
from fmbseg.steps.workspace import Workspace


def run_log() -> logging.Logger | LoggingAdapter:
    """The run's logger; a plain one where the code is called outside a run."""
    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger("fmbseg")


def say_time_left(root: str) -> None:
    """Log how much longer the run takes, as far as former runs tell; never in the run's way."""
    try:
        words = time_left(Workspace.open(root)).words()
    except Exception as error:  # an estimate is no part of the work
        run_log().debug("no estimate of the time left: %s", error)
        return
    if not words:
        return
    run_log().info("%s", words)
    if sys.stderr.isatty():
        tqdm.write(words, file=sys.stderr)


class TaskProgress:
    """Shows the reports of one task run, with `fmbseg.progress.listening`.

    Every report is a line of the log. The first one makes the artifact, later ones change it.
    Where that fails, the lines go on alone.
    """

    def __init__(self, unit: str) -> None:
        """For a unit such as `pseudo_masks 0003`; its first word names the artifact."""
        step = re.sub("[^a-z0-9]+", "-", unit.split()[0].lower()).strip("-")
        self._key = f"progress-{step}"
        self._artifact: UUID | None = None
        self._failed = False

    def __call__(self, report: Report) -> None:
        """Show a report."""
        run_log().info("%s", report.words())
        share = 1.0 if report.ended else report.share
        if share is None or self._failed:
            return
        try:
            self._show(100 * share, report.words())
        except Exception as error:  # the pages are no part of the work
            self._failed = True
            run_log().warning("Prefect's progress artifact cannot be written now: %s", error)

    def _show(self, percent: float, words: str) -> None:
        create: Any = create_progress_artifact
        update: Any = update_progress_artifact
        if self._artifact is None:
            self._artifact = create(percent, key=self._key, description=words, _sync=True)
        else:
            update(self._artifact, percent, description=words, _sync=True)
