"""A preview of a workspace: what it says is what stage 1 finds; what was looked at is kept."""

import argparse
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fmbseg.cli import main
from fmbseg.commands import preview as command
from fmbseg.params import load_params
from fmbseg.preview.seen import Seen, see
from fmbseg.steps import preview
from fmbseg.steps.preview import Preview
from fmbseg.steps.shards import shards
from fmbseg.steps.workspace import Workspace
from fmbseg.store import read_coco, read_json
from fmbseg.vocabulary import Vocabulary, read_classes

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def kept(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which six images of the small run were looked at; not to be changed."""
    root = tmp_path_factory.mktemp("preview")
    made = opened(root, small_run)
    made.sample()
    made.facts(read_classes(Workspace.open(small_run).classes_path()))
    return root


def opened(root: Path, small_run: Path) -> Preview:
    images = Workspace.open(small_run).images_root()
    params = load_params(small_run / "params.yaml", {"data.images": str(images)})
    names = Workspace.open(small_run).listing().images
    return Preview(Workspace(root, params), list(names), 6)


@pytest.fixture
def nobody_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """CLIP and SAM must not be asked for an image."""
    monkeypatch.setattr(preview, "see", lambda *_: pytest.fail("an image was looked at again"))
    monkeypatch.setattr(preview, "feature_of", lambda _: pytest.fail("a candidate again"))


def test_a_preview_says_what_stage_1_finds(kept: Path, small_run: Path, nobody_looks: None):
    workspace = Workspace.open(small_run)
    names = read_classes(workspace.classes_path())
    made = opened(kept, small_run)
    found = made.facts(names)
    where = {name: shard for shard, members in shards(workspace).items() for name in members}
    assert len(made.sample()) == len({seen.name for seen in made.sample()}) == 6
    for seen, present, labels in zip(made.sample(), found.present, found.labels, strict=True):
        folder = workspace.pseudo_masks / where[seen.name]
        wanted = read_json(folder / "presence.json")[seen.name]["present"]
        assert [names.names[index] for index in present] == wanted
        masks = read_coco(folder / "stage12.json").by_image()[seen.name]
        assert list(labels) == [mask.class_index for mask in masks]


def test_other_names_ask_no_model_for_an_image_and_give_the_same_page_twice(
    kept: Path, small_run: Path, nobody_looks: None
):
    names = Vocabulary.of([("sky",), ("grass", "lawn"), ("zebra",)])
    made = opened(kept, small_run)
    page = made.page(made.facts(names))
    again = opened(kept, small_run)
    assert again.page(again.facts(names)) == page
    assert "grass = lawn" in page.replace("<bdi>", "").replace("</bdi>", "")


def test_a_look_that_was_cut_or_damaged_is_taken_again_and_no_other(
    kept: Path, small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    root = Path(shutil.copytree(kept, tmp_path / "cut"))
    files = sorted(f for f in root.rglob("*.safetensors") if f.name != "texts.safetensors")
    assert len(files) == 6
    before = {file.name: file.read_bytes() for file in files}
    files[0].write_bytes(before[files[0].name][:1000])
    files[1].unlink()
    looked: list[str] = []

    def looking(image: np.ndarray, name: str, *more: Any) -> Seen:
        looked.append(name)
        return see(image, name, *more)

    monkeypatch.setattr(preview, "see", looking)
    opened(root, small_run).sample()
    assert len(looked) == 2
    assert {file.name: file.read_bytes() for file in files} == before


def test_images_that_cannot_be_read_are_named_and_others_taken(small_run: Path, tmp_path: Path):
    workspace = Workspace.open(small_run)
    good = [workspace.image_path(name) for name in sorted(workspace.listing().images)[:2]]
    images = tmp_path / "images"
    images.mkdir()
    for path in good:
        shutil.copy(path, images)
    (images / "broken.png").write_bytes(good[0].read_bytes()[:300])
    Image.fromarray(np.zeros((3, 90, 3), np.uint8)).save(images / "tiny.png")
    params = load_params(small_run / "params.yaml", {"data.images": str(images)})
    made = Preview(Workspace(tmp_path, params), [path.name for path in images.iterdir()])
    assert {seen.name for seen in made.sample()} == {path.name for path in good}
    assert set(made.refused) == {"broken.png", "tiny.png"}
    assert "smaller than 8 px" in made.refused["tiny.png"]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--classes", "cat"], "found one class, 'cat'; wanted two or more"),
        (["--classes", "cat, dog", "--n", "0"], "--n: found 0; wanted at least 1"),
        (["--classes", "cat, dog", "--watch"], "--watch: found names; wanted a class file"),
        (["--classes", "cat, dog", "--profile", "huge"], "models.profile: found 'huge'"),
        (["--classes", "words.txt"], "looks like a file, and there is no such file"),
    ],
)
def test_what_cannot_be_previewed_is_one_line(
    small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], more: list[str], said: str,
):  # fmt: skip
    monkeypatch.chdir(tmp_path)
    images = str(Workspace.open(small_run).images_root())
    assert main(["preview", images, *more]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "preview" / "index.html").exists()


def test_an_empty_folder_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "none").mkdir()
    arguments = [str(tmp_path / "none"), "--classes", "a, b", "--out", str(tmp_path / "out")]
    assert main(["preview", *arguments]) == 2
    assert "none: found no image there; wanted a folder with PNG" in capsys.readouterr().err


def test_a_watched_class_file_is_read_again_and_a_bad_one_is_said_on_the_page(
    kept: Path, small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], nobody_looks: None,
):  # fmt: skip
    out = Path(shutil.copytree(kept, tmp_path / "out"))
    file = tmp_path / "classes.txt"
    file.write_text("sky\ngrass\n")
    session, versions, pages = opened(out, small_run), [], []
    edits = iter(["sky\nzebra\n", "sky\nzebra, , a\n", "sky\nhouse\n"])

    def saved(_: float) -> None:
        versions.append((out / "version.js").read_text())
        pages.append((out / "index.html").read_text())
        text = next(edits, None)
        if text is None:
            raise KeyboardInterrupt
        file.write_text(text)

    monkeypatch.setattr(command, "Preview", lambda *_: session)
    monkeypatch.setattr("time.sleep", saved)
    images = Workspace.open(small_run).images_root()
    asked = argparse.Namespace(
        images=images, classes=str(file), n=6, profile=None, watch=True, out=out
    )
    answer = command.preview(asked)
    assert answer.code == 0
    assert [word["name"] for word in answer.facts["words"]] == ["sky", "house"]
    assert len(set(versions)) == 4
    assert [("grass" in p, "zebra" in p, "house" in p) for p in pages] == [
        (True, False, False), (False, True, False), (False, True, False), (False, False, True),
    ]  # fmt: skip
    assert ["cannot be used as it is now" in page for page in pages] == [False, False, True, False]
    assert "line 2: an empty name" in capsys.readouterr().out
