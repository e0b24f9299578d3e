"""`fmbseg predict` that is killed goes on to the same bytes, and leaves nothing half-written."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from fmbseg.miniature.world import generate
from fmbseg.store.files import file_shas
from tests.conftest import REPOSITORY
from tests.support.dvc_checkout import save_images
from tests.support.trained_folder import trained_folder

pytestmark = [pytest.mark.weights, pytest.mark.slow, pytest.mark.e2e]
IMAGES, KILLS = 40, 3


def started(folder: Path, out: str) -> "subprocess.Popen[str]":
    words = ["photos/**/*.png", "--classes", "sky, grass, road, car", "--confidence", "--json"]
    return subprocess.Popen(
        [sys.executable, "-m", "fmbseg.cli", "predict", *words, "--model", "model", "--out", out],
        cwd=folder, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def maps(out: Path) -> list[Path]:
    return [path for path in out.rglob("*.png") if not path.name.startswith(".")]


@pytest.mark.timeout(900)
def test_predictions_killed_three_times_have_the_same_bytes(tmp_path: Path):
    trained_folder(tmp_path / "model")
    save_images(tmp_path / "photos", (one.image for one in generate(0, IMAGES, "test")))
    whole = started(tmp_path, "whole")
    first = json.loads(whole.communicate(timeout=600)[0])
    assert (whole.returncode, len(first["images"])) == (0, IMAGES)
    for kill in range(1, KILLS + 1):
        process = started(tmp_path, "cut")
        while len(maps(tmp_path / "cut")) < 3 * kill * IMAGES // (KILLS + 1):
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.005)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        for path in maps(tmp_path / "cut"):
            with Image.open(path) as picture:
                picture.load()
    process = started(tmp_path, "cut")
    last = json.loads(process.communicate(timeout=600)[0])
    assert process.returncode == 0
    assert 0 < sum(one["made"] for one in last["images"]) < IMAGES // 2
    assert file_shas(tmp_path / "cut") == file_shas(tmp_path / "whole")
    assert not [path for path in (tmp_path / "cut").rglob(".*") if path.is_file()]
