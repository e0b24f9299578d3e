"""New images against a real server, unattended: one run for them, and none for anything else."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fmbseg.miniature.world import generate
from fmbseg.store import read_json
from fmbseg.store.journal import Journal
from tests.support.checkouts import Started, processes_with
from tests.support.running_server import ACTIVE, Served, post, served_copy, until
from tests.system.test_serve import TINY

pytestmark = [pytest.mark.e2e, pytest.mark.weights, pytest.mark.timeout(3600)]
WATCHED = {**TINY, "drops": {"interval_seconds": 4, "settle_seconds": 1.0}}
PATIENCE = 900.0


class Watched:
    """A served copy whose first full run has finished."""

    def __init__(self, served: Served, pictures: Path) -> None:
        self.served, self.root = served, served.copy.root
        self.drops = self.root / "data" / "drops"
        self._pictures = iter(sorted(pictures.iterdir()))

    def drop(self, *names: str) -> None:
        """Copy pictures that were not there before."""
        for name in names:
            shutil.copyfile(next(self._pictures), self.drops / name)

    def full_runs(self) -> list[dict[str, Any]]:
        """The oldest first."""
        return sorted(self.served.runs("fmbseg"), key=lambda run: run["created"])

    def new_run(self, known: int) -> dict[str, Any]:
        """The first full run after so many, once it is under way."""
        return until(lambda: self.full_runs()[known:], PATIENCE)[0]

    def ended(self, run: dict[str, Any]) -> dict[str, Any]:
        """The run, when it has ended."""

        def now() -> dict[str, Any] | None:
            found = next(one for one in self.full_runs() if one["id"] == run["id"])
            return found if found["state_type"] not in ACTIVE else None

        return until(now, PATIENCE)

    def looks(self) -> int:
        """How many looks have ended well."""
        return sum(run["state_type"] == "COMPLETED" for run in self.served.runs("watch"))

    def wait_for_looks(self, count: int) -> None:
        """Until so many more looks have ended that began from now on (one may be under way)."""
        before = self.looks()
        until(lambda: self.looks() >= before + count + 1, PATIENCE)

    def said(self) -> list[str]:
        """What all looks so far have logged."""
        return [line for run in self.served.runs("watch") for line in self.served.logs(run)]

    def stage_1(self) -> list[str]:
        """Shards in the journal, as they were computed."""
        lines = Journal(self.root / ".scratch" / "journal.jsonl").lines()
        return [Path(one["unit"]).name for one in lines if one["step"] == "pseudo_masks"]

    def covered(self) -> set[str]:
        """Drops that the last finished run covered."""
        return set(read_json(self.root / "reports" / "finished.json")["drops"])


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for index, item in enumerate(generate(77, 20, "train")):
        Image.fromarray(item.image).save(folder / f"{index:02d}.png")
    return folder


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Iterator[Watched]:
    root, outside = tmp_path_factory.mktemp("watched") / "copy", tmp_path_factory.mktemp("beside")
    with served_copy(root, outside, WATCHED) as served, served.serving():
        first = served.full()
        assert first.code == 0, first.error
        yield Watched(served, pictures)


def test_six_images_lead_to_one_run_of_their_shards_alone_whatever_is_touched_meanwhile(
    watched: Watched,
):
    watched.wait_for_looks(2)
    assert len(watched.full_runs()) == 1, "nothing came yet"
    old_shards = watched.stage_1()
    watched.drop(*(f"new {index}.png" for index in range(6)))
    run = watched.new_run(known=1)
    os.utime(watched.drops / "new 0.png")
    for name in ("new 1.png", "new 2.png"):
        same = watched.drops / f".{name}"
        shutil.copyfile(watched.drops / name, same)
        os.replace(same, watched.drops / name)
    (watched.drops / "coming.png.part").write_bytes(b"half")
    os.utime(watched.drops / "new 3.png", (1, 1))
    run = watched.ended(run)
    assert run["state_name"] == "Completed", watched.served.logs(run, least=40)
    watched.wait_for_looks(3)
    assert len(watched.full_runs()) == 2
    first, second = watched.full_runs()
    assert moment(first["end_time"]) <= moment(second["start_time"]), "no two at once"
    states = watched.served.tasks(run)
    shards = {n.split()[1]: s for n, s in states.items() if n.startswith("pseudo_masks ")}
    assert {shard for shard, state in shards.items() if state == "Cached"} == set(old_shards)
    assert sorted(watched.stage_1()[len(old_shards) :]) == ["drops-0000", "drops-0001"]
    assert watched.covered() == {f"new {index}.png" for index in range(6)}
    assert [tag for tag in run["tags"] if tag.startswith("drops:")]


def test_a_file_that_still_grows_starts_nothing_until_it_is_whole(watched: Watched):
    known = len(watched.full_runs())
    watched.drop("slow.png")
    path = watched.drops / "slow.png"
    content = path.read_bytes()
    path.write_bytes(content[:100])
    piece, looks = max(1, len(content) // 400), watched.looks()
    for start in range(100, len(content), piece):
        with path.open("ab") as file:
            file.write(content[start : start + piece])
        if watched.looks() >= looks + 3:
            break
        time.sleep(0.2)
    else:
        raise AssertionError("no look fell into the copying")
    assert any("still being copied, such as slow.png" in line for line in watched.said())
    assert len(watched.full_runs()) == known
    path.write_bytes(content)
    assert watched.ended(watched.new_run(known))["state_name"] == "Completed"
    assert "slow.png" in watched.covered()


def test_a_bad_file_alone_starts_nothing_and_is_reported_with_its_reason(watched: Watched):
    known = len(watched.full_runs())
    (watched.drops / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    quarantine = watched.root / "reports" / "drops-quarantine.json"
    until(quarantine.is_file, PATIENCE)
    watched.wait_for_looks(2)
    assert len(watched.full_runs()) == known
    (bad,) = read_json(quarantine)
    assert bad["image"] == "broken.jpg"
    said = [line for line in watched.said() if line.startswith("broken.jpg cannot be used: ")]
    assert said == [f"broken.jpg cannot be used: {bad['reason']}"], "once"
    found = post(
        f"{watched.served.url}/artifacts/latest/filter",
        {"artifacts": {"key": {"any_": ["drops"]}}},
    )
    assert f"- `broken.jpg`: {bad['reason']}" in found[0]["data"]


def test_an_image_that_is_taken_away_is_forgotten_by_a_new_run(watched: Watched):
    known = len(watched.full_runs())
    (watched.drops / "new 5.png").unlink()
    assert watched.ended(watched.new_run(known))["state_name"] == "Completed"
    assert "new 5.png" not in watched.covered()
    watched.wait_for_looks(2)
    assert len(watched.full_runs()) == known + 1


def test_killed_runs_and_a_killed_serve_lose_nothing(
    tmp_path_factory: pytest.TempPathFactory, pictures: Path
):
    root, outside = tmp_path_factory.mktemp("killed") / "copy", tmp_path_factory.mktemp("beside")
    with served_copy(root, outside, WATCHED) as served:
        watched = Watched(served, pictures)
        watched.drop("first.png")
        with served.serving() as serve:
            first = watched.new_run(known=0)
            os.kill(process_amid(watched, serve, first), signal.SIGKILL)
            assert watched.ended(first)["state_name"] == "Crashed"
            second = watched.new_run(known=1)
            process_amid(watched, serve, second)
            for pid in processes_with(serve.mark):
                os.kill(pid, signal.SIGKILL)
        left = next(run for run in watched.full_runs() if run["id"] == second["id"])
        assert left["state_name"] == "Running", "nobody was left to say more"
        with served.serving():
            second = watched.ended(second)
            assert second["state_name"] == "Crashed"
            message = "its process is gone: killed, or the machine was restarted"
            assert second["state"]["message"].startswith(message)
            third = watched.ended(watched.new_run(known=2))
            assert third["state_name"] == "Completed"
            assert watched.covered() == {"first.png"}
            watched.wait_for_looks(2)
        assert len(watched.full_runs()) == 3
        assert len({tuple(sorted(run["tags"])) for run in watched.full_runs()}) == 1


def process_amid(watched: Watched, serve: Started, run: dict[str, Any]) -> int:
    """Id of the run's process, once one of its tasks is at work."""
    until(lambda: "Running" in watched.served.tasks(run).values(), PATIENCE, serve)
    mark = f"PREFECT__FLOW_RUN_ID={run['id']}".encode()
    for pid in processes_with(serve.mark):
        if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            return pid
    raise AssertionError("no process of the run")


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))
