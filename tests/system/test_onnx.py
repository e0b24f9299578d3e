"""The exported model at the shapes and sizes that people have, and where nothing else is."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.onnx import random_segmenter, save_random
from fmbseg.model_export.measure import drawn
from fmbseg.model_export.write import ModelExport, write_model
from fmbseg.runtime import Runner
from fmbseg.segmenter import Segmenter
from fmbseg.vocabulary import Vocabulary
from tests.support.trained_folder import CLASSES, trained_folder

pytestmark = pytest.mark.e2e


def mixed(count: int, least_px: int, most_px: int) -> list[np.ndarray]:
    """Pictures of all proportions from 1 to 3 up to 3 to 1."""
    rng = np.random.default_rng(0)
    sizes = rng.integers(least_px, most_px, (count, 2))
    return [drawn((int(h), int(min(w, 3 * h))), k) for k, (h, w) in enumerate(sizes)]


def equal(segmenter: Segmenter, runner: Runner, images: list[np.ndarray], classes: list[str]):
    """Share of all pixels that both label alike."""
    same = [runner(one).labels == segmenter.predict(one, classes).labels for one in images]
    return sum(int(one.sum()) for one in same) / sum(one.size for one in same)


@pytest.mark.parametrize(("half", "least"), [(False, 0.999), (True, 0.995)])
def test_a_vit_b_14_labels_fifty_images_of_mixed_sizes_as_torch_does(half, least, tmp_path):
    names = [f"class {k}" for k in range(20)]
    segmenter = random_segmenter("vit_base_patch14_dinov2", short_side_px=140)
    save_random(segmenter, names, tmp_path / "model.onnx", half=half)
    assert equal(segmenter, Runner(tmp_path / "model.onnx"), mixed(50, 90, 500), names) >= least


@pytest.mark.parametrize(("precision", "least"), [("float32", 0.999), ("float16", 0.995)])
def test_the_miniature_labels_fifty_images_of_mixed_sizes_as_torch_does(precision, least, tmp_path):
    trained = trained_folder(tmp_path / "trained")
    out = tmp_path / "out"
    out.mkdir()
    write_model(trained, Vocabulary.of(CLASSES), ModelExport(precision), out)
    segmenter = Segmenter.load(trained, device="cpu", precision="float32")
    found = equal(segmenter, Runner(out / "model.onnx"), mixed(50, 60, 400), list(CLASSES))
    assert found >= least


def test_a_bare_environment_runs_the_copied_file(tmp_path):
    """numpy, Pillow and onnxruntime from the package index; nothing of this package."""
    trained = trained_folder(tmp_path / "trained")
    out, home = tmp_path / "out", tmp_path / "home"
    out.mkdir()
    home.mkdir()
    write_model(trained, Vocabulary.of(CLASSES), ModelExport(), out)
    for name in ("model.onnx", "runtime.py"):
        shutil.copy(out / name, home)
    photo = drawn((150, 210), 1)
    Image.fromarray(photo).save(home / "photo.png")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "bare"], check=True)
    python = tmp_path / "bare" / "bin" / "python"
    packages = ["numpy", "pillow", "onnxruntime"]
    installed = subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=False)
    if installed.returncode != 0:
        pytest.skip("the package index does not answer")
    ran = subprocess.run(
        [python, "-I", "runtime.py", "model.onnx", "photo.png"], cwd=home,
        capture_output=True, text=True, check=True, env={"PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert ran.stdout.startswith("photo.labels.png")
    labels = np.asarray(Image.open(home / "photo.labels.png"))
    wanted = Segmenter.load(trained, device="cpu").predict(photo, list(CLASSES)).labels
    assert (labels == wanted).mean() >= 0.999
    assert not [name for name in Path(home).iterdir() if name.name == "fmbseg"]
