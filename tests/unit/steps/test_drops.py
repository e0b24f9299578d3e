import os
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from fmbseg.corrections.store import (
    CorrectedRegion,
    Correction,
    read_correction,
    save_correction,
)
from fmbseg.miniature.world import generate
from fmbseg.steps import drops, finished, plan
from fmbseg.steps.corrections import CORRECTIONS, copy_accepted
from fmbseg.steps.workspace import Workspace
from fmbseg.store import encode_rles, image_sha, read_image, read_json, write_json
from tests.conftest import REPOSITORY


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_text((REPOSITORY / "params.yaml").read_text())
    return tmp_path


def drop(root: Path, *names: str, seed: int = 3) -> None:
    """Copy pictures into the folder."""
    pictures = generate(seed, len(names), "train")
    for name, item in zip(names, pictures, strict=True):
        path = root / "data" / "drops" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(item.image).save(path)


def finish(root: Path) -> None:
    """Record a finished run that covered all that lies in the folder."""
    workspace = Workspace.open(root)
    covered = {name: image_sha(workspace.drops / name) for name in drops.look(workspace).files}
    write_json(
        finished.finished_path(workspace),
        {"finished_at": "2026-01-02T03:04:05+00:00", "drops": covered, "units": {}},
    )


def correct(root: Path, image: str, words: str, *, accepted: bool = True) -> None:
    """Save a correction; what it says is what class the one region has."""
    folder, old = root / "data" / "corrections", read_correction(root / "data/corrections", image)
    region = CorrectedRegion(words, encode_rles(np.ones((1, 2, 3), bool))[0], "person")
    revision = 0 if old is None else old.revision
    one = Correction(image, "ab", (2, 3), (), (region,), accepted, revision=revision)
    save_correction(folder, one)


def found(root: Path) -> drops.News:
    workspace = Workspace.open(root)
    return drops.news(workspace, drops.look(workspace))


def test_no_folder_and_an_empty_folder_are_no_news_before_any_run(root: Path):
    assert not found(root).wants_run
    (root / "data" / "drops").mkdir(parents=True)
    (root / "data" / "drops" / "README.md").write_text("words")
    assert found(root) == drops.News((), (), (), (), found(root).digest)


def test_added_replaced_and_removed_are_told_apart_against_the_last_finished_run(root: Path):
    drop(root, "a.png", "b.png", "sub/c.png")
    assert found(root).added == ("a.png", "b.png", "sub/c.png")
    finish(root)
    assert not found(root).wants_run
    drop(root, "b.png", "new.png", seed=9)
    (root / "data" / "drops" / "sub" / "c.png").unlink()
    news = found(root)
    assert (news.added, news.replaced, news.removed) == (("new.png",), ("b.png",), ("sub/c.png",))
    assert news.wants_run


def test_other_times_and_the_same_bytes_written_again_are_no_news(root: Path):
    drop(root, "a.png", "b.png")
    finish(root)
    folder = root / "data" / "drops"
    before = found(root).digest
    os.utime(folder / "a.png", (1, 1))
    content = (folder / "b.png").read_bytes()
    (folder / "b.png").unlink()
    (folder / "b.png").write_bytes(content)
    (folder / "c.png.part").write_bytes(b"half")
    (folder / ".d.png").write_bytes(b"hidden")
    assert not found(root).wants_run
    assert found(root).digest == before


def test_bad_files_alone_want_no_run_and_each_has_its_reason(root: Path):
    drop(root, "whole.png")
    finish(root)
    folder = root / "data" / "drops"
    (folder / "empty.png").touch()
    (folder / "cut.png").write_bytes((folder / "whole.png").read_bytes()[:400])
    (folder / "away.png").symlink_to("/etc/hostname")
    news = found(root)
    assert not news.wants_run
    reasons = {bad["image"]: bad["reason"] for bad in news.bad}
    assert set(reasons) == {"empty.png", "cut.png", "away.png"}
    assert reasons["empty.png"] == "empty file"
    assert all(reasons.values())


def test_a_covered_image_overwritten_by_something_bad_is_reported_and_starts_nothing(root: Path):
    drop(root, "a.png", "b.png")
    finish(root)
    (root / "data" / "drops" / "a.png").write_text("no picture")
    news = found(root)
    assert [bad["image"] for bad in news.bad] == ["a.png"]
    assert not news.wants_run


def test_a_half_copied_image_is_bad_until_the_rest_has_come(root: Path):
    drop(root, "a.png")
    path = root / "data" / "drops" / "a.png"
    whole = path.read_bytes()
    path.write_bytes(whole[:300])
    assert [bad["image"] for bad in found(root).bad] == ["a.png"]
    with path.open("ab") as file:
        file.write(whole[300:])
    news = found(root)
    assert news.added == ("a.png",)
    assert not news.bad


def test_only_files_that_changed_by_size_time_or_inode_are_read_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
):
    drop(root, "a.png", "b.png", "c.png")
    read: list[str] = []

    def noted(path, **limit):
        read.append(path.name)
        return read_image(path, **limit)

    monkeypatch.setattr(drops, "read_image", noted)
    found(root)
    assert sorted(read) == ["a.png", "b.png", "c.png"]
    read.clear()
    drop(root, "b.png", seed=9)
    assert found(root).added == ("a.png", "b.png", "c.png")
    assert read == ["b.png"]


def test_damaged_memory_costs_reading_again_and_nothing_else(root: Path):
    drop(root, "a.png")
    news = found(root)
    (root / ".scratch" / "drops.json").write_text('{"files": [1]}')
    assert found(root) == news


def test_a_damaged_record_of_the_last_run_leads_to_a_run_that_renews_it(root: Path):
    drop(root, "a.png")
    finish(root)
    assert not found(root).wants_run
    path = finished.finished_path(Workspace.open(root))
    whole = path.read_bytes()
    for damaged in (bytes(len(whole)), whole[:40], b""):
        path.write_bytes(damaged)
        assert found(root).added == ("a.png",)
        assert finished.finished_at(Workspace.open(root)) is None
    finish(root)
    assert not found(root).wants_run


def test_another_limit_of_size_judges_all_files_anew(root: Path):
    drop(root, "a.png")
    assert found(root).added == ("a.png",)
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["data"]["max_megapixels"] = 0.001
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    assert "more than the limit" in found(root).bad[0]["reason"]


def test_a_look_is_settled_until_a_file_or_the_last_finished_run_changes(root: Path):
    workspace = Workspace.open(root)
    drop(root, "a.png")
    finish(root)
    assert not drops.is_settled(workspace, drops.look(workspace))
    drops.settle(workspace, drops.look(workspace))
    assert drops.is_settled(workspace, drops.look(workspace))
    os.utime(root / "data" / "drops" / "a.png", (1, 1))
    assert not drops.is_settled(workspace, drops.look(workspace))
    drops.settle(workspace, drops.look(workspace))
    write_json(
        finished.finished_path(workspace), {"finished_at": "2027-01-01T00:00:00+00:00", "drops": {}}
    )
    assert not drops.is_settled(workspace, drops.look(workspace))


def test_accepted_corrections_are_news_until_a_run_has_covered_what_they_say(root: Path):
    correct(root, "a.png", "sky", accepted=False)
    assert not found(root).wants_run, "a draft"
    correct(root, "a.png", "sky")
    first = found(root)
    assert (first.corrected, first.wants_run) == (("a.png",), True)
    workspace = Workspace.open(root)
    assert drops.look(workspace).fresh_corrections(60) == ["a.png"]
    copy_accepted(workspace, workspace.downloads / CORRECTIONS)
    write_json(workspace.download / "listing.json", {"images": {}, "refused": []})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "keys", lambda workspace: {})
        finished.remember(workspace)
    assert not found(root).wants_run
    correct(root, "a.png", "sky")
    assert not found(root).wants_run, "the same again"
    correct(root, "a.png", "sea")
    second = found(root)
    assert second.corrected == ("a.png",)
    assert second.digest != first.digest
    correct(root, "a.png", "sea", accepted=False)
    assert found(root).corrected == ("a.png",), "withdrawn: to be forgotten"


def test_files_of_this_moment_are_fresh_and_dates_of_the_future_are_not(root: Path):
    workspace = Workspace.open(root)
    drop(root, "now.png", "old.png", "future.png")
    folder = root / "data" / "drops"
    os.utime(folder / "old.png", (1, 1))
    os.utime(folder / "future.png", (time.time() + 9e6,) * 2)
    assert drops.look(workspace).fresh(60) == ["now.png"]
    assert drops.look(workspace).fresh(0) == []


@pytest.mark.parametrize("inside", ["photos/new", "photos", "photos/drops"])
def test_drops_inside_the_image_folder_are_covered_by_the_run_that_lists_them(
    root: Path, inside: str, monkeypatch: pytest.MonkeyPatch
):

    params = yaml.safe_load((root / "params.yaml").read_text())
    photos = root / "photos"
    params["data"] |= {"images": str(photos), "drops": inside}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    (root / inside).mkdir(parents=True, exist_ok=True)
    Image.fromarray(next(iter(generate(1, 1, "train"))).image).save(root / inside / "a.png")
    workspace = Workspace.open(root)
    listed = {
        path.relative_to(photos).as_posix(): image_sha(path) for path in photos.rglob("*.png")
    }
    write_json(workspace.download / "listing.json", {"images": listed, "refused": []})
    monkeypatch.setattr(plan, "keys", lambda workspace: {})
    finished.remember(workspace)
    assert read_json(finished.finished_path(workspace))["drops"] == {
        "a.png": image_sha(root / inside / "a.png")
    }
    assert not found(root).wants_run
    assert finished.finished_at(workspace) is not None
