import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterDeploymentId,
)
from prefect.client.schemas.objects import FlowRun, State
from prefect.states import Cancelled, Completed, Crashed, Failed, Running, Scheduled

from flows import watch as module
from flows.orphans import LOCKS, ORPHANED, alive, close_orphans
from flows.watch import NoDeploymentError, watch
from fmbseg.steps import drops
from fmbseg.steps.finished import finished_path
from fmbseg.steps.workspace import Workspace
from fmbseg.store import read_json, write_json
from tests.conftest import REPOSITORY
from tests.unit.steps.test_drops import correct, drop, finish

pytestmark = pytest.mark.slow


class Full:
    """The deployment `fmbseg/full`, with nobody to run it."""

    def __init__(self, client: Any) -> None:
        self.client = client
        flow = client.create_flow_from_name("fmbseg")
        self.id = client.create_deployment(flow, "full")

    def runs(self) -> list[FlowRun]:
        mine = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[self.id]))
        found = self.client.read_flow_runs(flow_run_filter=mine)
        return sorted(found, key=lambda run: run.created)

    def set(self, run: FlowRun, state: Any) -> None:
        self.client.set_flow_run_state(run.id, state, force=True)


class Clock:
    """Stands in for the module `time`: its time passes only while somebody sleeps.

    Attributes:
        now: seconds since 1970.
        meanwhile: called in every sleep.
    """

    def __init__(self) -> None:
        self.now = 1_700_000_000.0
        self.meanwhile: Callable[[], object] = lambda: None

    def time(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.meanwhile()

    def changed(self, path: Path, ago: float) -> None:
        """Have the file's last change lie that many seconds back."""
        os.utime(path, (self.now - ago,) * 2)


SETTLE_SECONDS = 4


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    for user in (module, drops):
        monkeypatch.setattr(user, "time", made)
    return made


@pytest.fixture
def root(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace whose drops settle by the clock of the test."""
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    params["drops"] |= {
        "settle_seconds": SETTLE_SECONDS, "max_attempts": 2, "corrections_settle_seconds": 60,
    }  # fmt: skip
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def full(prefect_server: None) -> Iterator[Full]:
    with get_client(sync_client=True) as client:
        made = Full(client)
        for run in made.runs():
            client.delete_flow_run(run.id)
        yield made


@pytest.fixture
def arrive(root: Path, clock: Clock) -> Callable[..., None]:
    """Drops pictures, and lets them settle."""

    def arrive(*names: str, seed: int = 3) -> None:
        drop(root, *names, seed=seed)
        for name in names:
            clock.changed(root / "data" / "drops" / name, SETTLE_SECONDS + 1)

    return arrive


def test_new_images_ask_for_one_run_and_no_second_while_it_is_under_way(
    root: Path, full: Full, arrive: Callable[..., None]
):
    arrive("a.png", "b.png")
    assert watch(".").startswith("asked for ")
    (run,) = full.runs()
    assert run.parameters["root"] == "."
    assert run.state.is_scheduled()
    assert [tag[:6] for tag in run.tags] == ["drops:"]
    assert run.parent_task_run_id is None, "no sub-flow: the watch may end before it"
    running: State[Any] = Running()
    for state in (None, running):
        if state:
            full.set(run, state)
        assert watch(".") == "a full run is under way"
    full.set(run, Completed())
    finish(root)
    assert watch(".") == "nothing to train on (0 files cannot be used)"
    assert len(full.runs()) == 1


def test_when_nothing_changed_a_look_reads_no_file_and_asks_no_server(
    root: Path, full: Full, arrive: Callable[..., None], monkeypatch: pytest.MonkeyPatch
):
    arrive("a.png")
    finish(root)
    watch(".")

    def forbidden(*_: object, **__: object) -> None:
        raise AssertionError("nothing changed")

    monkeypatch.setattr(drops, "news", forbidden)
    monkeypatch.setattr(module, "_request", forbidden)
    assert watch(".") == "nothing new"


def test_failed_runs_on_the_same_images_end_at_the_limit_and_other_images_start_anew(
    root: Path, full: Full, arrive: Callable[..., None]
):
    arrive("a.png")
    for attempt in (1, 2):
        assert watch(".").startswith("asked for ")
        assert len(full.runs()) == attempt
        full.set(full.runs()[-1], Failed(message="no room"))
    assert watch(".") == "gave up on these images"
    assert len(full.runs()) == 2
    arrive("b.png", seed=7)
    assert watch(".").startswith("asked for ")


def test_runs_that_were_cancelled_or_whose_machine_went_down_are_not_held_against_the_images(
    root: Path, full: Full, arrive: Callable[..., None]
):
    arrive("a.png")
    ends: list[State[Any]] = [
        Cancelled(), Crashed(message=f"{ORPHANED}."), Cancelled(), Completed(),
    ]  # fmt: skip
    for state in ends:
        assert watch(".").startswith("asked for ")
        full.set(full.runs()[-1], state)
    full_runs = len(full.runs())
    assert full_runs == 4
    for _ in range(2):
        assert watch(".").startswith("asked for ")
        full.set(full.runs()[-1], Crashed(message="Process exited with status code: -9"))
    assert watch(".") == "gave up on these images"


def test_a_run_that_is_planned_for_a_later_day_does_not_hold_new_images_back(
    root: Path, full: Full, arrive: Callable[..., None]
):
    later: State[Any] = Scheduled(scheduled_time=datetime.now(UTC) + timedelta(days=2))
    full.client.create_flow_run_from_deployment(full.id, state=later)
    arrive("a.png")
    assert watch(".").startswith("asked for ")


def test_two_watchers_that_see_the_same_at_once_ask_for_the_same_run(
    root: Path, full: Full, arrive: Callable[..., None], monkeypatch: pytest.MonkeyPatch
):
    arrive("a.png")
    monkeypatch.setattr(module, "runs_of", lambda *_, **__: [])
    assert watch(".") == watch(".")
    assert len(full.runs()) == 1


def test_bad_files_alone_start_no_run_and_are_reported_once(
    root: Path,
    full: Full,
    arrive: Callable[..., None],
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
):
    arrive("a.png")
    finish(root)
    (root / "data" / "drops" / "cut.png").write_bytes(b"\x89PNG")
    clock.changed(root / "data" / "drops" / "cut.png", SETTLE_SECONDS + 1)
    said = []
    for _ in range(2):
        caplog.clear()
        assert watch(".") in ("nothing to train on (1 files cannot be used)", "nothing new")
        said.append([r.message for r in caplog.records if r.levelname == "WARNING"])
    assert [message[:7] for message in said[0]] == ["cut.png"]
    assert said[1] == []
    assert not full.runs()
    (bad,) = read_json(root / "reports" / "drops-quarantine.json")
    assert bad["image"] == "cut.png"
    (artifact,) = full.client.read_latest_artifacts(
        artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["drops"]))
    )
    assert f"- `cut.png`: {bad['reason']}" in artifact.data
    (root / "data" / "drops" / "cut.png").unlink()
    watch(".")
    assert read_json(root / "reports" / "drops-quarantine.json") == []


def test_what_grows_or_changed_just_now_is_left_to_a_later_look(
    root: Path, full: Full, clock: Clock
):
    drop(root, "a.png")
    path = root / "data" / "drops" / "a.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:200])
    clock.changed(path, SETTLE_SECONDS - 1)
    assert watch(".") == "still being copied"
    clock.changed(path, SETTLE_SECONDS + 1)

    def copy_on() -> None:
        before = path.stat()
        path.write_bytes(whole[: before.st_size + 1])
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))  # as `cp -p`: size alone tells

    clock.meanwhile = copy_on
    assert watch(".") == "still being copied"
    clock.meanwhile = lambda: None
    path.write_bytes(whole)
    clock.changed(path, SETTLE_SECONDS + 1)
    assert watch(".").startswith("asked for ")


def test_without_the_deployment_the_watch_says_how_to_start_it(
    root: Path, full: Full, arrive: Callable[..., None]
):
    arrive("a.png")
    full.client.delete_deployment(full.id)
    with pytest.raises(NoDeploymentError, match="make serve"):
        watch(".")


def test_no_drops_folder_and_no_finished_run_start_nothing(root: Path, full: Full):
    assert watch(".") == "nothing to train on (0 files cannot be used)"
    assert not full.runs()


def test_runs_without_a_living_process_are_closed_and_the_others_left_alone(
    root: Path, full: Full, monkeypatch: pytest.MonkeyPatch
):
    states: dict[str, State[Any]] = {
        "gone": Running(), "works": Running(), "waits": Scheduled(), "ended": Completed(),
    }  # fmt: skip
    runs = {}
    for name, state in states.items():
        runs[name] = full.client.create_flow_run_from_deployment(full.id, name=name)
        full.set(runs[name], state)
    (root / LOCKS).mkdir(parents=True)
    (root / LOCKS / f"{runs['gone'].id}.lock").touch()
    monkeypatch.setattr("flows.orphans.runtime.flow_run", type("Run", (), {"id": runs["works"].id}))
    with alive():
        closed = close_orphans(full.client, {"fmbseg": "full"})
    assert [run.name for run in closed] == ["gone"]
    after = {run.name: run.state for run in full.runs()}
    assert after["gone"].name == "Crashed"
    assert after["gone"].message.startswith(ORPHANED)
    assert {name: state.name for name, state in after.items()} == {
        "gone": "Crashed", "works": "Running", "waits": "Scheduled", "ended": "Completed",
    }  # fmt: skip
    assert not list((root / LOCKS).iterdir())


def test_corrections_ask_for_one_run_once_people_pause(root: Path, full: Full, clock: Clock):
    correct(root, "a.png", "sky")
    file = root / "data" / "corrections" / "a.png.json"
    clock.changed(file, 30)
    assert watch(".") == "corrections are still being made"
    clock.sleep(31)
    assert watch(".").startswith("asked for ")
    assert watch(".") == "a full run is under way"
    (run,) = full.runs()
    full.set(run, Completed())
    state = Workspace.open(root)
    covered = drops.look(state).corrected
    finish(root)
    write_json(finished_path(state), {**read_json(finished_path(state)), "corrections": covered})
    assert watch(".") == "nothing to train on (0 files cannot be used)"
    assert watch(".") == "nothing new"
    assert len(full.runs()) == 1
