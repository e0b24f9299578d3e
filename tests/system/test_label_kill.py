"""`fmbseg label` that is killed goes on to the same bytes."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fmbseg.miniature.world import generate
from fmbseg.store.files import file_shas
from tests.conftest import REPOSITORY
from tests.support.dvc_checkout import save_images

pytestmark = [pytest.mark.weights, pytest.mark.slow, pytest.mark.e2e]
IMAGES, KILLS = 60, 3


def started(folder: Path) -> "subprocess.Popen[bytes]":
    words = ["photos", "--classes", "sky, grass, road, car, tree", "--format", "coco"]
    return subprocess.Popen(
        [sys.executable, "-m", "fmbseg.cli", "label", *words], cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def records(folder: Path) -> int:
    """Files that stage 1 has left so far, of finished images and units."""
    return sum(1 for _ in folder.rglob(".scratch/pseudo_masks/**/*.json"))


@pytest.mark.timeout(1800)
def test_labels_of_sixty_images_killed_three_times_have_the_same_bytes(tmp_path: Path):
    for name in ("whole", "cut"):
        save_images(tmp_path / name / "photos", (one.image for one in generate(0, IMAGES, "train")))
    assert started(tmp_path / "whole").wait(900) == 0
    for kill in range(1, KILLS + 1):
        process = started(tmp_path / "cut")
        while records(tmp_path / "cut") < kill * IMAGES // (KILLS + 1):
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "cut" / "labels").exists()
    assert started(tmp_path / "cut").wait(900) == 0
    whole, cut = (file_shas(tmp_path / name / "labels") for name in ("whole", "cut"))
    assert len(whole) > IMAGES
    assert whole == cut
    shutil.rmtree(tmp_path / "whole")
