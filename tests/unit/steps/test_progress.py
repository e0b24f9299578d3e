"""What a long step says of itself while it runs."""

import contextvars
import logging
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from tqdm import tqdm

from fmbseg import progress as module
from fmbseg.progress import Progress, Report, clock, listening, progress, tracked


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def heard() -> Iterator[list[Report]]:
    found: list[Report] = []
    with listening(found.append):
        yield found


def begun(clock: Clock, total: float | None = 3000, unit: str = "step") -> Progress:
    return Progress("train", total, unit, 0, tqdm(disable=True), now=clock)


def test_a_long_step_reports_after_5_s_and_then_every_30_s_even_if_nothing_moves(
    heard: list[Report],
):
    now = Clock()
    step = begun(now)
    times = []
    for second in range(1, 131):
        now.now = 100.0 + second
        before = len(heard)
        step.beat()
        if len(heard) > before:
            times.append(second)
    assert times == [5, 35, 65, 95, 125]
    assert step.beat() == pytest.approx(25.0), "seconds to the next report"


def test_a_report_says_share_rate_time_left_and_loss(heard: list[Report]):
    now = Clock()
    step = begun(now)
    for _ in range(1860):
        step.update(loss=0.41234567)
    now.now += 155.0
    step.beat()
    (report,) = heard
    assert report.share == pytest.approx(0.62)
    assert report.left_s == pytest.approx(95.0)
    assert report.words() == (
        "train: 62 % (1,860 of 3,000 steps), 12 steps/s, 1:35 left, loss 0.4123"
    )


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (Report("a", "image", 0, 5, 0, 40.0), "a: 0 % (0 of 5 images), for 0:40"),
        (Report("a", "image", 1, 2, 1, 90.0), "a: 50 % (1 of 2 images), 90 s per image, 1:30 left"),
        (Report("a", "B", 2e9, None, 1e9, 10.0), "a: 2.00GB, 100MB/s"),
        (Report("a", "step", 9, 9, 4, 2.0, {}, True), "a: 4 steps in 0:02, 2 steps/s"),
        (Report("a", "image", 1, 9, 1, 800.0),
         "a: 11 % (1 of 9 images), 13:20 per image, 1:46:40 left"),
    ],
)  # fmt: skip
def test_words_of_a_report(report: Report, words: str):
    assert report.words() == words


def test_what_was_done_before_a_cut_counts_in_the_share_but_not_in_the_rate(heard: list[Report]):
    now = Clock()
    step = Progress("train", 100, "step", 90, tqdm(disable=True), now=now)
    step.update(5)
    now.now += 10
    step.beat()
    assert heard[0].share == pytest.approx(0.95)
    assert heard[0].rate == pytest.approx(0.5)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports every hundredth of a second."""
    monkeypatch.setattr(module, "FIRST_S", 0.01)
    monkeypatch.setattr(module, "EVERY_S", 0.01)


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until it holds, 20 s at most."""
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.002)


def test_without_a_bar_or_a_listener_the_log_has_the_lines(
    quick, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    monkeypatch.setenv("TQDM_DISABLE", "1")
    with caplog.at_level(logging.INFO, "fmbseg.progress"), progress("train", total=2) as done:
        done.update()
        wait_for(lambda: "train: 50 % (1 of 2 images)" in caplog.text)
    assert caplog.messages[-1].startswith("train: 1 image in 0:")


def test_a_listener_hears_a_step_that_is_stuck_in_its_first_image_in_its_own_context(quick):
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="")
    found: list[tuple[str, float, bool]] = []

    def of(own: str) -> list[tuple[str, float, bool]]:
        return [report for report in found if report[0] == own]

    def work(own: str) -> None:
        name.set(own)
        with listening(lambda report: found.append((name.get(), report.done, report.ended))):
            for _ in tracked([1], own):
                wait_for(lambda: len(of(own)) > 2)

    threads = [threading.Thread(target=work, args=(own,)) for own in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for own in ("a", "b"):
        assert of(own)[0] == (own, 0, False)
        assert of(own)[-1] == (own, 1, True)
        assert len(of(own)) > 3


def test_a_short_step_says_nothing(heard: list[Report], caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO):
        assert list(tracked(range(3), "short")) == [0, 1, 2]
    assert (heard, caplog.messages) == ([], [])


def test_a_quiet_step_says_nothing(quick, heard: list[Report]):
    with progress("quiet", shown=False):
        time.sleep(0.1)
    assert heard == []


def test_a_listener_that_fails_ends_no_step(quick, caplog: pytest.LogCaptureFixture):
    def fails(report: Report) -> None:
        raise ConnectionError("no server")

    with caplog.at_level(logging.INFO), listening(fails), progress("train", total=2) as done:
        done.update(2)
        wait_for(lambda: "goes on" in caplog.text)
    warnings = [one.getMessage() for one in caplog.records if one.levelno == logging.WARNING]
    assert warnings == ["train: goes on; its progress cannot be shown: no server"]
    assert caplog.messages[-1].startswith("train: 2 images in"), "the log has the lines instead"


def test_a_listener_that_hangs_keeps_no_step_waiting(quick, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_PATIENCE_S", 0.05)
    called, released = threading.Event(), threading.Event()

    def hangs(report: Report) -> None:
        called.set()
        released.wait(60)

    with listening(hangs), progress("train", total=1):
        assert called.wait(20)
        began = time.monotonic()
    assert time.monotonic() - began < 20
    released.set()


def test_a_step_that_fails_makes_no_last_report(quick, heard: list[Report]):
    def fails() -> None:
        with progress("train", total=2):
            wait_for(lambda: heard)
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        fails()
    assert heard
    assert not any(report.ended for report in heard)


def test_a_duration_is_shown_as_on_a_clock():
    assert [clock(s) for s in (0, 7.4, 94, 3599.6, 43200)] == [
        "0:00", "0:07", "1:34", "1:00:00", "12:00:00"
    ]  # fmt: skip
