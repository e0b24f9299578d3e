"""A picture of 100 megapixels: label maps and pseudo masks in bounded memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from fmbseg.align.head import AlignmentHead
from fmbseg.align.settings import DESCRIPTION
from fmbseg.miniature import world
from fmbseg.models.build import build_model
from fmbseg.store import write_json
from tests.conftest import REPOSITORY

pytestmark = [
    pytest.mark.e2e, pytest.mark.weights,
    pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="memory is read there"),
]  # fmt: skip
SIZE_WH = (12_000, 8_333)
MOST_BYTES = 2e9
"""What a command may add to a process that holds the models."""
PREDICT = """
segmenter = Segmenter.load("model", "cpu")
held = held_bytes()
code = main(["predict", "large.jpg", "--model", "model", "--classes", "classes.txt",
             "--out", "out", *sys.argv[1:]])
"""
STAGE_1 = """
clip = build_model("clip", "miniature", {}, projection="naclip", short_side_px="auto")
sam, names = build_model("sam", "miniature", {}), world.SEEN_CLASS_NAMES
texts, options = clip.encode_text(names), load_params("params.yaml").pseudo_masks
held = held_bytes()
found = pseudo_masks_of_image(
    read_image("large.jpg"), "large.jpg", clip, sam, texts, names,
    options.changed(points_per_side=3),
)
code = 0 if found.masks_11 and found.masks_12 else 1
"""
EVALUATE = """
method, names = Segmenter.load("model", "cpu").segmentation, world.SEEN_CLASS_NAMES
held = held_bytes()
image = read_image("large.jpg")
truth = np.zeros(image.shape[:2], np.uint8)
prepared = PreparedMethod(protocol_named(sys.argv[1]), method, Vocabulary(tuple(names)))
predicted = prepared.predict(image)
counted = Tally.of_image(predicted, truth, len(names)).confusion().matrix
ScoredImage.reduced("large", image, predicted, truth)
code = 0 if counted.sum() == truth.size else 1
"""
PROGRAM = """
import json, sys
import numpy as np
import torch
from fmbseg.cli import main
from fmbseg.estimate.memory import held_bytes, peak_bytes
from fmbseg.evaluate.examples import ScoredImage
from fmbseg.evaluate.metrics import Tally
from fmbseg.evaluate.prepared import PreparedMethod
from fmbseg.evaluate.protocol import protocol_named
from fmbseg.miniature import world
from fmbseg.models.build import build_model
from fmbseg.params import load_params
from fmbseg.pseudo.stage1 import pseudo_masks_of_image
from fmbseg.segmenter import Segmenter
from fmbseg.store import read_image
from fmbseg.vocabulary import Vocabulary

torch.set_num_threads(1)
{work}
print(json.dumps({{"code": code, "added": peak_bytes() - held}}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A large picture, a model with an untrained head and the miniature's class names."""
    folder = tmp_path_factory.mktemp("large")
    small = next(iter(world.generate(0, 1, "test"))).image
    Image.fromarray(small).resize(SIZE_WH, Image.Resampling.NEAREST).save(folder / "large.jpg")
    vision = build_model("vision", "miniature", {}, short_side_px="auto")
    clip = build_model("clip", "miniature", {}, projection="naclip", short_side_px="auto")
    AlignmentHead(vision.dim, clip.dim).save(folder / "model")
    models = dict.fromkeys(("clip", "sam", "vision")) | {
        "profile": "miniature", "projection": "naclip", "template": 'a photo of a "{}"',
    }  # fmt: skip
    write_json(
        folder / "model" / DESCRIPTION,
        {"models": models, "input_short_side_px": "auto", "temperature": 0.2},
    )
    (folder / "classes.txt").write_text("\n".join(world.SEEN_CLASS_NAMES))
    (folder / "params.yaml").write_bytes((REPOSITORY / "params.yaml").read_bytes())
    return folder


@pytest.mark.parametrize(
    ("work", "options"),
    [
        (PREDICT, ()),
        (PREDICT, ("--confidence", "--similarities", "png")),
        (STAGE_1, ()),
        (EVALUATE, ("whole",)),
        (EVALUATE, ("tcl",)),
    ],
    ids=["predict", "predict with scores", "stage 1", "evaluate", "evaluate in windows"],
)
def test_a_picture_of_100_megapixels_takes_at_most_two_gigabytes_beside_the_models(
    folder: Path, work: str, options: tuple[str, ...]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(work=work), *options], cwd=folder, text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, capture_output=True, timeout=600,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["code"] == 0
    print(f"added {told['added'] / 1e9:.2f} GB")
    assert told["added"] < MOST_BYTES
    if work == PREDICT:
        with Image.open(folder / "out" / "large.png") as labels:
            assert labels.size == SIZE_WH
        with Image.open(folder / "out" / "large.overlay.png") as shown:
            assert shown.width * shown.height < 2**25, "an overlay is for viewers"
