"""The preview of the workspace's class names as a page of the review's server."""

import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as StillLooking

from fmbseg.steps.preview import Preview
from fmbseg.steps.workspace import Workspace
from fmbseg.vocabulary import read_classes

POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""The page's Content-Security-Policy: it holds its own style and pictures, and no script."""
LOOKING = (
    '<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="1">'
    "<title>Class names</title><p>CLIP and SAM look at some images; this takes about a minute."
)
"""Shown until they have looked; it loads itself again."""
_WAIT_S = 0.5


class NamesPage:
    """What becomes of the class file's names, as it is now, on images that are looked at once."""

    def __init__(self, workspace: Workspace) -> None:
        """Nothing is looked at before the page is asked for."""
        self._workspace, self._one_at_a_time = workspace, threading.Lock()
        self._session: Future[Preview] | None = None

    def html(self) -> str:
        """The page, or `LOOKING`.

        Raises:
            ValueError: what cannot be previewed, and what to do; the next call tries again.
        """
        with self._one_at_a_time:
            if self._session is None:
                self._session = Future()
                threading.Thread(target=self._look, args=(self._session,), daemon=True).start()
            try:
                session = self._session.result(_WAIT_S)
            except StillLooking:
                return LOOKING
            except Exception:
                self._session = None
                raise
            return session.page(session.facts(read_classes(self._workspace.classes_path())))

    def _look(self, made: "Future[Preview]") -> None:
        try:
            session = Preview.of(self._workspace)
            session.sample()
            made.set_result(session)
        except Exception as error:
            made.set_exception(error)
