"""All steps of a small run on a pretended GPU, and a prediction with its model."""

from collections.abc import Iterator

import pytest
import torch
import yaml

from fmbseg.methods import clip_diy, upsampling
from fmbseg.methods.upsampling import resize_similarities
from fmbseg.segmenter import Segmenter
from fmbseg.steps import foundation_models
from fmbseg.steps.evaluate import build
from fmbseg.steps.plan import STEPS, run_step
from fmbseg.steps.workspace import Workspace
from fmbseg.store import read_image, read_json
from fmbseg.types import Image
from fmbseg.vocabulary import read_classes
from tests.conftest import REPOSITORY, SMALL
from tests.support.pretend_gpu import GPU, counted, pretend


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workspace]:
    """A run of all steps; the GPU stays until the last test of this file."""
    root = tmp_path_factory.mktemp("gpu")
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    for section, values in SMALL.items():
        params[section] |= values
    params["device"] = str(GPU)
    params["runtime"]["precision"] = "float32"  # a real GPU, where there is one, has no say
    params["data"] |= {"train_images": 3, "val_images": 1, "test_images": 1}
    params["train"] |= {"epochs": 1, "validation_images": 1}
    params["evaluate"]["methods"] = ["maskclip", "fmbseg"]
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    with pytest.MonkeyPatch.context() as patch:
        pretend(patch)
        for step in STEPS:
            run_step(Workspace.open(root), step)
        yield Workspace.open(root)
        foundation_models._build.cache_clear()


def _image(workspace: Workspace) -> Image:
    return read_image(sorted(workspace.root.rglob("*.png"))[0])


def test_every_step_runs_on_a_gpu(done: Workspace) -> None:
    for method in done.params.evaluate.methods:
        metrics = read_json(done.evaluate / f"{method}-miniature" / "metrics.json")
        assert metrics["images"] == 1
        assert metrics["miou"] is not None
    assert done.params.runner.workers > 1, "features came from several threads"
    assert (done.report / "index.html").is_file()


def test_a_prediction_waits_for_the_gpu_twice(done: Workspace) -> None:
    segmenter = Segmenter.load(done.train, device=str(GPU))
    image, classes = _image(done), read_classes(done.classes_path())
    segmenter.predict(image, classes)  # texts
    with counted() as traffic:
        answer = segmenter.predict(image, classes)
    assert answer.labels.shape == image.shape[:2]
    assert traffic.waits.total() <= 2, traffic.waits
    assert any("/methods/pixels.py" in place for place in traffic.waits), "of labels, not cosines"


@pytest.mark.parametrize("method", ["maskclip", "stage1", "clip_diy", "fmbseg"])
def test_similarities_are_interpolated_on_the_gpu(
    done: Workspace, method: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices = []

    def watched(grid: torch.Tensor, *size: tuple[int, int]) -> torch.Tensor:
        devices.append(grid.device)
        return resize_similarities(grid, *size)

    for module in (clip_diy, upsampling):
        monkeypatch.setattr(module, "resize_similarities", watched)
    segmentation = build(done, method)
    segmentation.segment(_image(done), ["cat", "grass", "boat"])
    assert devices
    assert set(devices) == {GPU}
