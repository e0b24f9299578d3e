"""Names full of HTML, quotes, control and right-to-left characters, through COCO files and DVC."""

import contextlib
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from dvc.cli import main
from dvc.repo import Repo
from pycocotools.coco import COCO

from fmbseg.evaluate.metrics import ConfusionMatrix
from fmbseg.steps import evaluate, plots
from fmbseg.steps.shards import shards
from fmbseg.steps.workspace import Workspace
from fmbseg.store import list_images, read_coco, read_json, write_coco, write_json
from fmbseg.types import PseudoMask, SamMask
from tests.support.masks import encode_rle

HOSTILE = (
    "<script>alert('x')</script>", "a\"b'c`d", "\u202eevil\u202c", "\u05e2\u05d1\u05e8\u05d9\u05ea",
    "new\nline", "tab\t and \x07 bell", "${data.images}", "$(touch gone)", "..", "*?[a]", "C:\\x",
    "=1+1", "-rf", "caf\u00e9 \U0001f600", "a__b", "%2e%2e%2f", " lead and trail ", "x" * 80,
)  # fmt: skip
FOLDERS = tuple(name.replace("/", "") for name in HOSTILE if name != "..")


def mask(image: str, index: int, name: str) -> PseudoMask:
    pixels = np.zeros((3, 4), bool)
    pixels[1, index % 4] = True
    found = SamMask(encode_rle(pixels), 1, (float(index % 4), 1.0, 1.0, 1.0), 0.9, 0.8, ())
    return PseudoMask(image, index, name, "1.1", 0.25, found)


def test_hostile_names_of_classes_and_images_come_back_unchanged_from_coco_files(tmp_path: Path):
    images = [f"a <b> folder/{name}.png" for name in HOSTILE]
    masks = [mask(images[k], k, HOSTILE[k]) for k in range(len(HOSTILE))]
    path = tmp_path / "masks.json"
    write_coco(path, masks, dict.fromkeys(images, (3, 4)), HOSTILE)
    back = read_coco(path)
    assert back.masks == masks
    assert back.class_names == HOSTILE
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(path)
    assert [one["name"] for one in coco.loadCats(coco.getCatIds())] == list(HOSTILE)
    assert {one["file_name"] for one in coco.imgs.values()} == set(images)
    assert path.read_bytes().isascii(), "nothing in it can turn or break a line that shows it"
    assert path.read_bytes().count(b"\n") == 1


@pytest.fixture
def workspace(small_workspace: Path) -> Workspace:
    """A folder of images in sub-folders with hostile names."""
    photos = small_workspace / "photos"
    for name in FOLDERS:
        (photos / name).mkdir(parents=True)
        (photos / name / f"{name}.png").write_bytes(b"x")
    names = list_images(photos)
    write_json(
        small_workspace / "data/download/miniature/listing.json",
        {"images": dict.fromkeys(names, "0"), "refused": []},
    )
    return Workspace.open(small_workspace)


def test_shards_of_hostile_folders_lie_in_the_workspace_and_go_through_dvc_and_back(
    workspace: Workspace,
    dvc_site: None,
    monkeypatch: pytest.MonkeyPatch,
):
    usable = [name for name in FOLDERS if name.isprintable()]
    found = shards(workspace)
    assert len(found) == len(usable), "control and turning characters were refused before"
    for shard, names in found.items():
        folder = workspace.pseudo_masks / shard
        assert folder.resolve().parent == workspace.pseudo_masks.resolve()
        write_json(folder / "presence.json", dict.fromkeys(names, HOSTILE))
    before = {path: path.read_bytes() for path in workspace.pseudo_masks.rglob("*.json")}
    assert len(before) == len(usable)
    monkeypatch.chdir(workspace.root)
    repository = Repo.init(no_scm=True)
    repository.add("data/pseudo_masks")
    shutil.rmtree(workspace.pseudo_masks)
    repository.checkout()
    assert {path: path.read_bytes() for path in workspace.pseudo_masks.rglob("*.json")} == before
    assert not (workspace.root / "gone").exists()


def test_plots_of_hostile_classes_are_text_in_the_page_that_dvc_makes_of_them(
    workspace: Workspace, dvc_site: None, monkeypatch: pytest.MonkeyPatch
):
    counted = ConfusionMatrix(len(HOSTILE))
    counted.update(np.arange(len(HOSTILE)), np.arange(len(HOSTILE)))
    folder = workspace.evaluate / "fmbseg-miniature"
    write_json(folder / "metrics.json", {"iou": dict.fromkeys(HOSTILE, 1.0)})
    write_json(folder / "confusion.json", counted.matrix.tolist())
    write_json(workspace.train / "history.json", [{"step": 1, "loss": 2.0}])
    monkeypatch.setattr(evaluate, "scored", lambda _: ["fmbseg-miniature"])
    plots.write(workspace, workspace.root / "plots")
    (workspace.root / "dvc.yaml").write_text(
        "plots:\n- plots/iou: {template: bar_horizontal, x: iou, y: class}\n"
    )
    monkeypatch.chdir(workspace.root)
    Repo.init(no_scm=True)
    assert main(["plots", "show", "--out", "page"]) == 0
    page = (workspace.root / "page" / "index.html").read_text()
    assert page.count("<script") == page.count("</script>")
    assert "<script>alert" not in page
    assert '</script>"' not in page
    assert "\\uff1cscript>alert('x')\\uff1c/script>" in page
    table = read_json(workspace.root / "plots" / "iou" / "fmbseg-miniature.json")
    assert [row["class"] for row in table] == [name.replace("<", "\uff1c") for name in HOSTILE]
