"""How a long step says where it is: a bar in a terminal, a line every half minute elsewhere.

    with progress("train", total=steps, unit="step") as done:
        for batch in batches:
            done.update(loss=step(batch))

Whoever runs a step may listen (`listening`), for instance to show it on a web page; the step
itself need not know.
"""

import contextlib
import contextvars
import logging
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, TypeVar

from tqdm import tqdm

from fmbseg.progress_report import Report as Report
from fmbseg.progress_report import clock as clock

FIRST_S = 5.0
"""Seconds after which the first report is made; what is over sooner makes none."""
EVERY_S = 30.0
"""Seconds between two reports, whether or not anything moved."""
_PATIENCE_S = 5.0
"""How long the end of a step waits for a listener."""
_HUB_BARS = "HF_HUB_DISABLE_PROGRESS_BARS"

DECIDES_OUTPUTS = False
"""Progress changes no output of a step (see `fmbseg.steps.code`)."""
T = TypeVar("T")
_log = logging.getLogger(__name__)
_silent = False
"""Whether this process says nothing about where it is."""


Listener = Callable[[Report], None]
_listener: contextvars.ContextVar[Listener | None] = contextvars.ContextVar(
    "fmbseg_progress_listener", default=None
)


@contextlib.contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Hand the reports of every step begun inside to `listener` instead of the log.

    It is called by a thread of the step's own, with the context variables of the step's start.
    When it raises, the step goes on and reports to the log from then on.
    """
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)


def lines_to_stderr() -> None:
    """Let the log's lines of progress appear on standard error; for the start of a program."""
    if not _log.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        _log.addHandler(handler)
        _log.setLevel(logging.INFO)
        _log.propagate = False


@contextlib.contextmanager
def silent() -> Iterator[None]:
    """Inside, no bar and no line of progress appears in any thread; listeners are told as ever.

    The hub's client is told too, if it has not been imported yet.
    """
    global _silent
    before, hub = _silent, os.environ.get(_HUB_BARS)
    _silent = True
    os.environ[_HUB_BARS] = "1"
    try:
        yield
    finally:
        _silent = before
        if hub is None:
            del os.environ[_HUB_BARS]
        else:
            os.environ[_HUB_BARS] = hub


class Progress:
    """A step under way; `progress` makes one. Threads may share it."""

    def __init__(
        self,
        label: str,
        total: float | None,
        unit: str,
        initial: float,
        bar: "tqdm[Any]",
        *,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin; nothing is said yet."""
        self._label, self._total, self._unit, self._initial = label, total, unit, initial
        self._bar, self._now, self._began = bar, now, now()
        self._done, self._figures = initial, dict[str, float]()
        self._lock, self._over = threading.Lock(), threading.Event()
        self._listener = _listener.get()
        self._next = self._began + FIRST_S
        self._said = False

    def update(self, count: float = 1, **figures: float) -> None:
        """Note that `count` more units are done, and the latest figures, such as the loss."""
        with self._lock:
            self._done += count
            self._figures.update(figures)
            if not self._bar.disable:
                if figures:
                    words = ", ".join(f"{name}={value:.4g}" for name, value in figures.items())
                    self._bar.set_postfix_str(words, refresh=False)
                self._bar.update(count)

    @property
    def done(self) -> float:
        """Units done so far."""
        return self._done

    def report(self, *, ended: bool = False) -> Report:
        """Where the step is now."""
        with self._lock:
            return Report(
                self._label, self._unit, self._done, self._total, self._done - self._initial,
                self._now() - self._began, dict(self._figures), ended,
            )  # fmt: skip

    def beat(self) -> float:
        """Make a report if one is due; returns the seconds until the next one is."""
        if self._now() >= self._next:
            self._say(self.report())
            self._next = self._now() + EVERY_S
        return max(self._next - self._now(), 0.0)

    def end(self) -> None:
        """Make the last report, if there was one before."""
        if self._said:
            self._say(self.report(ended=True))

    def _say(self, report: Report) -> None:
        self._said = True
        if self._listener is not None:
            try:
                return self._listener(report)
            except Exception as error:
                _log.warning("%s: goes on; its progress cannot be shown: %s", self._label, error)
                self._listener = None
        if self._bar.disable and not _silent:
            _log.info("%s", report.words())
        return None

    @contextlib.contextmanager
    def reported(self) -> Iterator[None]:
        """Reports are made by a thread while the block runs, and at its end if it succeeds."""
        if self._listener is None and not self._bar.disable:
            yield
            return
        failed = False

        def beats() -> None:
            while not self._over.wait(self.beat()):
                pass
            if not failed:
                self.end()

        context = contextvars.copy_context()
        thread = threading.Thread(target=context.run, args=(beats,), name="progress", daemon=True)
        thread.start()
        try:
            yield
        except BaseException:
            failed = True
            raise
        finally:
            self._over.set()
            thread.join(_PATIENCE_S)


@contextlib.contextmanager
def progress(
    label: str,
    *,
    total: float | None = None,
    unit: str = "image",
    initial: float = 0,
    shown: bool = True,
) -> Iterator[Progress]:
    """Say where a step is while the block runs.

    In a terminal a bar does; elsewhere (or with TQDM_DISABLE set) the log has a line after 5 s,
    then every 30 s, and at the end. A listener has the same reports in either case.

    Args:
        label: what the step is called.
        total: units it will have done at its end, if that is known.
        unit: one of them, in the singular; "B" means bytes.
        initial: units that were done before, by a run that was cut.
        shown: False says nothing at all.
    """
    off = os.environ.get("TQDM_DISABLE", "").lower() not in ("", "0", "false")
    bar: tqdm[Any] = tqdm(
        total=total, initial=initial, desc=label, unit=unit, unit_scale=unit == "B",
        disable=True if off or _silent or not shown else None,
    )  # fmt: skip
    found = Progress(label, total, unit, initial, bar)
    with bar, found.reported() if shown else contextlib.nullcontext():
        yield found


def tracked(
    items: Iterable[T], label: str, *, total: float | None = None, unit: str = "image"
) -> Iterator[T]:
    """The items one after the other, each counted when the next is asked for; see `progress`."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with progress(label, total=total, unit=unit) as done:
        for item in items:
            yield item
            done.update()
