"""DVC with a folder of one's own as `data.images`, which lies outside what DVC follows."""

import shutil
from pathlib import Path

import pytest

from fmbseg.miniature.world import SEEN_CLASS_NAMES, generate
from fmbseg.steps import plan
from fmbseg.store import read_json
from tests.support.dvc_checkout import Checkout, checkout, save_images

pytestmark = [
    pytest.mark.weights, pytest.mark.slow,
    pytest.mark.usefixtures("prefect_server", "dvc_site"),
]  # fmt: skip

EXTRA_DEPS = ("${data.images}", "${data.classes}", "${data.labels}")


def photographs(root: Path, *, labelled: bool) -> Path:
    """A folder with images/, classes.txt and, if wanted, labels/."""
    drawn = list(generate(21, 6, "train"))
    save_images(root / "images", [item.image for item in drawn])
    if labelled:
        save_images(root / "labels", [item.labels.astype("uint8") for item in drawn])
    (root / "classes.txt").write_text("\n".join(SEEN_CLASS_NAMES))
    return root


def on(photos: Path, root: Path) -> Checkout:
    """A checkout whose params.yaml points at the photographs."""
    one = checkout(root)
    one.change(
        data={
            "images": str(photos / "images"), "classes": str(photos / "classes.txt"),
            "labels": str(photos / "labels") if (photos / "labels").is_dir() else None,
        },
        evaluate={"methods": ["maskclip", "fmbseg"]},
    )  # fmt: skip
    return one


def redraw(photos: Path) -> None:
    """Another picture under the name of the first."""
    save_images(photos / "images", [item.image for item in generate(22, 1, "train")])


def test_labelled_photographs_named_as_deps_are_followed_by_dvc(tmp_path: Path):
    photos = photographs(tmp_path / "photos", labelled=True)
    one = on(photos, tmp_path / "code")
    dvc_yaml = one.root / "dvc.yaml"
    named = "\n".join(f"      - {dep}" for dep in ("${data.drops}", *EXTRA_DEPS))
    dvc_yaml.write_text(dvc_yaml.read_text().replace("      - ${data.drops}", named))
    one.flow()
    assert one.status() == set()
    assert "Running stage" not in one.dvc("repro")
    assert "miou.fmbseg-folder" in one.dvc("metrics", "show")

    before = one.computed()
    save_images(photos / "labels", [next(iter(generate(22, 1, "train"))).labels.astype("uint8")])
    assert one.status() == {"download"}
    one.flow()
    scored = [f"reports/evaluate/{name}-folder" for name in ("foundation", "fmbseg", "maskclip")]
    assert one.computed() == sorted([*before, "data/download/folder", *scored, "reports/report"])
    assert one.status() == set()

    redraw(photos)
    assert one.status() == {"download"}


def test_photographs_without_labels_leave_dvc_clean(tmp_path: Path):
    one = on(photographs(tmp_path / "photos", labelled=False), tmp_path / "code")
    one.flow()
    assert one.status() == set()
    assert read_json(one.root / "reports/report/metrics.json").keys() == {"pseudo_masks"}
    assert not [unit for unit in one.computed() if unit.startswith("reports/evaluate")]


@pytest.mark.e2e
def test_photographs_without_labels_work_both_ways_and_are_looked_at_on_demand(tmp_path: Path):
    photos = photographs(tmp_path / "photos", labelled=False)
    one = on(photos, tmp_path / "code")
    one.flow()
    assert one.status() == set()
    assert "Running stage" not in one.dvc("repro")
    assert read_json(one.root / "reports/report/metrics.json").keys() == {"pseudo_masks"}
    one.dvc("metrics", "show")
    before = one.computed()
    assert not [unit for unit in before if unit.startswith("reports/evaluate")]

    shutil.rmtree(one.root / "reports" / "evaluate")
    one.dvc("repro", "--single-item", "evaluate")
    assert one.status() == set()
    assert one.computed() == before

    one.dvc("remote", "add", "--default", "store", str(tmp_path / "store"))
    one.git("add", "--all")
    one.git("commit", "--quiet", "--message=run")
    one.dvc("push")
    one.git("clone", "--quiet", str(one.root), str(tmp_path / "clone"))
    clone = Checkout(tmp_path / "clone")
    clone.dvc("pull")
    assert (clone.root / "reports" / "evaluate").is_dir()
    assert clone.status() == set()
    assert plan.problem(clone.workspace()) is None

    redraw(photos)
    assert one.status() == set(), "DVC follows what dvc.yaml names; docs/dvc.md says so"
    one.dvc("repro", "--single-item", "--force", "download")
    assert one.status() == {"pseudo_masks", "train", "evaluate", "report"}
    assert one.computed() == sorted([*before, "data/download/folder"])


@pytest.mark.e2e
def test_photographs_without_labels_go_through_dvc_repro_alone(tmp_path: Path):
    photos = photographs(tmp_path / "photos", labelled=False)
    one = on(photos, tmp_path / "code")
    one.dvc("repro")
    assert one.status() == set()
    redraw(photos)
    one.dvc("repro", "--single-item", "--force", "download")
    one.dvc("repro")
    assert one.computed().count("data/pseudo_masks/images-0000") == 2
    assert one.computed().count("data/pseudo_masks/images-0001") == 1
    before = one.computed()
    assert set(one.flow().values()) == {"Cached"}
    assert one.computed() == before
    assert one.status() == set()
