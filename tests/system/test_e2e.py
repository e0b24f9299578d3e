"""The shipped defaults, whole: what the README claims, and real photographs where they lie near."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fmbseg.store import read_json
from tests.conftest import REPOSITORY, SMALL
from tests.support.checkouts import set_params

pytestmark = [pytest.mark.e2e, pytest.mark.weights]
NEAR = 0.015
"""How far from README's mean over seeds the mIoU of one seed may lie, on any machine: twice what
other seeds and other rounding did (docs/decisions.md)."""
CLOSE = 0.05
"""How far any other figure may lie from README's."""
CAMVID = REPOSITORY.parent / "shared" / "data" / "camvid"


def readme_rows(text: str) -> dict[str, tuple[float, float]]:
    """What README's table states by method: mIoU and pixel accuracy; of several seeds the mean."""
    row = r"^\| `(\w+)` \| miniature \| (0\.\d+)[^|]*\|[^|]+\| (0\.\d+)[^|]*\|"
    return {name: (float(miou), float(right)) for name, miou, right in re.findall(row, text, re.M)}


def readme_foundation(text: str) -> list[float]:
    """Presence's precision, recall and F1, and SAM's IoU: its top-scored mask, and the best."""
    (found,) = re.findall(
        r"^Presence \(CLIP\): precision (\S+), recall (\S+), F1 (\S+)\. SAM's top-scored mask from "
        r"one random point: mean IoU (\S+) \(best of three (\S+)\)\.$", text, re.M,
    )  # fmt: skip
    return [float(figure) for figure in found]


def run(*arguments: str) -> None:
    command = [sys.executable, "-m", "flows.run", *arguments]
    subprocess.run(command, cwd=REPOSITORY, check=True, timeout=1200)


@pytest.mark.timeout(1300)
def test_the_default_run_reaches_the_readmes_figure_on_any_machine(tmp_path: Path):
    shutil.copyfile(REPOSITORY / "params.yaml", tmp_path / "params.yaml")
    run("--workspace", str(tmp_path))
    metrics = {
        method: read_json(tmp_path / f"reports/evaluate/{method}-miniature/metrics.json")
        for method in ("foundation", "maskclip", "stage1", "fmbseg")
    }
    text = (REPOSITORY / "README.md").read_text()
    rows = readme_rows(text)
    assert list(rows) == ["maskclip", "stage1", "fmbseg"]
    for method, (miou, pixel_accuracy) in rows.items():
        near = NEAR if method == "fmbseg" else CLOSE
        assert metrics[method]["miou"] == pytest.approx(miou, abs=near), method
        assert metrics[method]["pixel_accuracy"] == pytest.approx(pixel_accuracy, abs=CLOSE), method
    assert min(metrics["fmbseg"]["iou"].values()) > 0
    presence, sam = (metrics["foundation"][part] for part in ("presence", "sam_random_point"))
    found = [presence[name] for name in ("precision", "recall", "f1")]
    found += [sam[name] for name in ("top_scored_iou", "best_of_3_iou")]
    assert found == pytest.approx(readme_foundation(text), abs=CLOSE)
    assert (tmp_path / "reports/report/index.html").is_file()


@pytest.mark.timeout(1300)
@pytest.mark.skipif(not CAMVID.is_dir(), reason="no photographs beside the checkout")
@pytest.mark.parametrize("labelled", [True, False])
def test_photographs_run_through_with_labels_and_without(tmp_path: Path, labelled: bool):
    labels = ["--labels", str(CAMVID / "labels"), "--ignore-label", "11"] if labelled else []
    run("--images", str(CAMVID / "images"), "--classes", str(CAMVID / "classes.txt"),
        "--workspace", str(tmp_path), *labels)  # fmt: skip
    page = (tmp_path / "reports/report/index.html").read_text()
    assert "not what the method can do" in page
    assert (tmp_path / "reports/evaluate/fmbseg-folder/metrics.json").is_file() == labelled


@pytest.mark.timeout(1300)
@pytest.mark.skipif(not CAMVID.is_dir(), reason="no photographs beside the checkout")
def test_labelled_photographs_are_scored_without_their_ignored_pixels_and_pictured(tmp_path: Path):
    data = {
        "images": str(CAMVID / "images"), "classes": str(CAMVID / "classes.txt"),
        "labels": str(CAMVID / "labels"), "ignore_label": 11,
    }  # fmt: skip
    few: dict[str, Any] = {"methods": ["maskclip", "fmbseg"], "examples": 6}
    set_params(tmp_path, {**SMALL, "data": data, "evaluate": few})
    run("--workspace", str(tmp_path))
    names = (CAMVID / "classes.txt").read_text().split("\n")[:11]
    labels = {
        path.relative_to(CAMVID / "labels").with_suffix("").as_posix(): np.asarray(Image.open(path))
        for path in (CAMVID / "labels").rglob("*.png")
    }
    pixels = np.bincount(np.concatenate([one.ravel() for one in labels.values()]), minlength=12)
    page = (tmp_path / "reports/report/index.html").read_text()
    for method in few["methods"]:
        unit = tmp_path / f"reports/evaluate/{method}-folder"
        metrics, matrix = read_json(unit / "metrics.json"), read_json(unit / "confusion.json")
        assert list(metrics["iou"]) == names
        assert metrics["images"] == len(labels) == 60
        assert np.sum(matrix, axis=1).tolist() == pixels[:11].tolist()
        scores = read_json(unit / "image_scores.json")
        assert {one["image"].rpartition(".")[0] for one in scores} == set(labels)
        pictured = sorted((one for one in scores if one["example"]), key=lambda one: one["miou"])
        assert [one["example"]["side"] for one in pictured] == ["worst"] * 3 + ["best"] * 3
        assert all(one["image"] in page for one in pictured)
        assert metrics["protocol_hash"] in page
    assert all(f">{name}<" in page for name in names)
    assert "Confusions and examples" in page
    assert 'id="paper"' not in page
    assert len(page) < 6_000_000
