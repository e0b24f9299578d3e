"""Stage 1 on large photographs: what is held at once is bounded, and the bound changes nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fmbseg.pseudo import labelling, rasterise
from fmbseg.pseudo.automatic import automatic_masks
from fmbseg.pseudo.stage1 import pseudo_masks_of_image
from tests.conftest import REPOSITORY
from tests.support.pseudo_fakes import NAMES, OPTIONS, ColourClip, ColourSam, painted

TEXTS = ColourClip().encode_text(NAMES)
LARGE_PHOTO = """
import json
import numpy as np, PIL.Image, torch
from fmbseg.miniature import world
from fmbseg.models.build import build_model
from fmbseg.params import load_params
from fmbseg.pseudo.stage1 import pseudo_masks_of_image

def peak_bytes():  # not ru_maxrss, which a child process has from its parent
    status = open("/proc/self/status").read()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])

torch.set_num_threads(1)
clip = build_model("clip", "miniature", {}, projection="naclip", short_side_px="auto")
sam, names = build_model("sam", "miniature", {}), world.SEEN_CLASS_NAMES
texts = clip.encode_text(names)
small = next(iter(world.generate(0, 1, "test"))).image
image = np.asarray(PIL.Image.fromarray(small).resize((6000, 4000)))
options = load_params("params.yaml").pseudo_masks.changed(points_per_side=2)
before = peak_bytes()
found = pseudo_masks_of_image(image, "a.png", clip, sam, texts, names, options)
print(json.dumps({"masks": len(found.masks_11 + found.masks_12), "before": before,
                  "peak": peak_bytes()}))
"""


class CountingSam(ColourSam):
    """Remembers how many pixels were upscaled at once."""

    def __init__(self):
        super().__init__()
        self.most = 0

    def upscale(self, embedding, logits):
        self.most = max(self.most, len(logits) * embedding.image_hw[0] * embedding.image_hw[1])
        return super().upscale(embedding, logits)


@pytest.mark.parametrize("pixels_at_once", [1, 5000, 2**24])
def test_how_much_is_held_at_once_changes_no_mask(monkeypatch, pixels_at_once):
    image = painted("red", "green", "blue")
    expected = pseudo_masks_of_image(
        image, "a.png", ColourClip(), ColourSam(), TEXTS, NAMES, OPTIONS
    )
    assert len(expected.masks_12) >= 3
    monkeypatch.setattr(rasterise, "_PIXELS_IN_CACHE", pixels_at_once)
    monkeypatch.setattr(labelling, "_PIXELS_AT_ONCE", pixels_at_once)
    found = pseudo_masks_of_image(image, "a.png", ColourClip(), ColourSam(), TEXTS, NAMES, OPTIONS)
    assert found == expected


@pytest.mark.parametrize(("pixels_at_once", "most"), [(1, 48 * 64), (10_000, 3 * 48 * 64)])
def test_no_more_masks_are_upscaled_at_once_than_fit(monkeypatch, pixels_at_once, most):
    monkeypatch.setattr(rasterise, "_PIXELS_IN_CACHE", pixels_at_once)
    sam = CountingSam()
    automatic_masks(sam, painted("red", "green"), OPTIONS)
    assert sam.most == most


@pytest.mark.slow
@pytest.mark.weights
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="peak memory is read there")
def test_a_photo_of_24_megapixels_passes_stage_1_in_four_gigabytes():
    done = subprocess.run(
        [sys.executable, "-c", LARGE_PHOTO], capture_output=True, text=True, timeout=300,
        check=False, cwd=REPOSITORY, env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["masks"] >= 1
    assert told["peak"] < 4e9
    assert told["peak"] - told["before"] < 1.5e9
