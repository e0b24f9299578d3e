"""The exported model at the shapes and sizes that people have, and where nothing else is."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image

from benchmarks.onnx import random_segmenter, save_random
from fmbseg.evaluate.metrics import ConfusionMatrix
from fmbseg.model_export.graph import AlignedFeatures
from fmbseg.model_export.measure import drawn
from fmbseg.model_export.write import ModelExport, write_model
from fmbseg.models.protocols import TakesTiles
from fmbseg.runtime import Runner, windows_of
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


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_folder(tmp_path_factory.mktemp("onnx") / "trained")


@pytest.fixture(scope="module")
def float32(trained: Path) -> Path:
    """The miniature's plain export, for all tests that compare with it; a trace takes 20 s."""
    return exported(trained, trained.parent / "float32", ModelExport())


def exported(trained: Path, out: Path, plan: ModelExport) -> Path:
    out.mkdir()
    write_model(trained, Vocabulary.of(CLASSES), plan, out)
    return out


@pytest.mark.parametrize(("half", "least"), [(False, 0.999), (True, 0.995)])
def test_a_vit_b_14_labels_fifty_images_of_mixed_sizes_as_torch_does(half, least, tmp_path):
    names = [f"class {k}" for k in range(20)]
    segmenter = random_segmenter("vit_base_patch14_dinov2", short_side_px=140)
    save_random(segmenter, names, tmp_path / "model.onnx", half=half)
    runner = Runner(tmp_path / "model.onnx")
    assert equal(segmenter, runner, mixed(50, 90, 500), names) >= least
    seven = [drawn((120, 170), seed) for seed in range(7)]
    for image, answer in zip(seven, runner.several(seven), strict=True):
        assert (answer.labels == segmenter.predict(image, names).labels).mean() >= least


def test_the_miniature_labels_fifty_images_of_mixed_sizes_as_torch_does(trained, float32):
    segmenter = Segmenter.load(trained, device="cpu", precision="float32")
    images, runner = mixed(50, 60, 400), Runner(float32 / "model.onnx")
    assert equal(segmenter, runner, images, list(CLASSES)) >= 0.999


def test_in_float16_the_miniature_labels_fifty_images_as_torch_does(trained, tmp_path):
    out = exported(trained, tmp_path / "out", ModelExport("float16"))
    segmenter = Segmenter.load(trained, device="cpu", precision="float32")
    images, runner = mixed(50, 60, 400), Runner(out / "model.onnx")
    assert equal(segmenter, runner, images, list(CLASSES)) >= 0.995


@pytest.mark.parametrize("calibrated", [False, True])
def test_eight_bits_of_the_miniature_lose_little_on_fifty_images(
    calibrated, trained, float32, tmp_path
):
    """The mIoU against float32's labels: the head of these tests is drawn, not trained."""
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(8):
        Image.fromarray(drawn((150, 210), 100 + number)).save(photos / f"{number}.png")
    plan = ModelExport("int8", calibrated_on=str(photos) if calibrated else None)
    int8 = Runner(exported(trained, tmp_path / "int8", plan) / "model.onnx")
    whole, counts = Runner(float32 / "model.onnx"), ConfusionMatrix(len(CLASSES))
    for image in mixed(50, 60, 400):
        counts.update(int8(image).labels.astype(int), whole(image).labels.astype(int))
    assert counts.miou() > 0.85


def test_fixed_windows_answer_as_torch_does_on_the_same_windows(trained, tmp_path):
    side = 96
    out = exported(trained, tmp_path / "out", ModelExport(window_px=side))
    runner = Runner(out / "model.onnx")
    segmentation = Segmenter.load(trained, device="cpu", precision="float32").segmentation
    assert isinstance(segmentation.vision, TakesTiles)
    texts, patch = segmentation.encode_names(CLASSES), segmentation.vision.patch_hw[0]
    torchs = AlignedFeatures(segmentation.vision, segmentation.head).eval()
    for image in mixed(4, 100, 400):
        resized = runner.resized(image)
        height, width = (length // patch for length in resized.shape[:2])
        total, weights = torch.zeros(len(CLASSES), height, width), torch.zeros(height, width)
        for top, left, rows, cols in windows_of((height, width), (side // patch, side // patch)):
            part = resized[top * patch : (top + rows) * patch, left * patch : (left + cols) * patch]
            with torch.no_grad():
                features = torchs(torch.from_numpy(part.copy())[None])[0]
            near = [
                torch.tensor([min(k + 1, n - k, n // 4) / (n // 4) for k in range(n)])
                for n in (rows, cols)
            ]
            weight, place = torch.outer(*near), (slice(top, top + rows), slice(left, left + cols))
            total[:, *place] += weight * torch.einsum("cd,rsd->crs", texts, features)
            weights[place] += weight
        pixels = torch.nn.functional.interpolate(
            (total / weights)[None], size=image.shape[:2], mode="bilinear", align_corners=False
        )
        assert (runner(image).labels == pixels[0].argmax(0).numpy()).mean() >= 0.999


def test_the_standards_operators_alone_give_the_same_labels(trained, float32, tmp_path):
    out = exported(trained, tmp_path / "out", ModelExport(standard=True))
    runners = [Runner(one / "model.onnx") for one in (out, float32)]
    model = onnx.load(out / "model.onnx")
    assert {node.domain for node in model.graph.node} == {""}
    assert [one.domain for one in model.opset_import] == [""]
    assert not [node for node in model.graph.node if node.op_type == "Scan"]
    for image in mixed(8, 60, 400):
        assert (runners[0](image).labels == runners[1](image).labels).mean() >= 0.999


def test_a_bare_environment_runs_the_copied_file(trained, float32, tmp_path):
    """numpy, Pillow and onnxruntime from the package index; nothing of this package."""
    home = tmp_path / "home"
    home.mkdir()
    for name in ("model.onnx", "runtime.py"):
        shutil.copy(float32 / name, home)
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
