"""The shipped defaults, whole: what the README claims, and real photographs where they lie near."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fmbseg.store import read_json
from tests.conftest import REPOSITORY

pytestmark = [pytest.mark.e2e, pytest.mark.weights]
CAMVID = REPOSITORY.parent / "shared" / "data" / "camvid"


def run(*arguments: str) -> None:
    command = [sys.executable, "-m", "flows.run", *arguments]
    subprocess.run(command, cwd=REPOSITORY, check=True, timeout=1200)


@pytest.mark.timeout(1300)
def test_the_default_run_reaches_the_figures_it_is_held_to(tmp_path: Path):
    shutil.copyfile(REPOSITORY / "params.yaml", tmp_path / "params.yaml")
    run("--workspace", str(tmp_path))
    metrics = {
        method: read_json(tmp_path / f"reports/evaluate/{method}-miniature/metrics.json")
        for method in ("foundation", "maskclip", "stage1", "fmbseg")
    }
    assert metrics["fmbseg"]["miou"] >= 0.40
    assert min(metrics["fmbseg"]["iou"].values()) > 0
    assert metrics["stage1"]["miou"] >= 0.45
    assert metrics["foundation"]["presence"]["f1"] >= 0.80
    assert metrics["foundation"]["sam_random_point"]["top_scored_iou"] >= 0.60
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
