"""The row `talk2dino` of `make table`: trained on the captions of the same images, scored alike."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fmbseg.evaluate.prepared import PreparedMethod
from fmbseg.models.vision import TimmVision
from fmbseg.steps import evaluate, evaluation_sets
from fmbseg.steps.foundation_models import models_of, models_params
from fmbseg.steps.scoring import Evaluation, score
from fmbseg.steps.workspace import Workspace
from fmbseg.store import MANIFEST, UnitKey, file_sha, read_image, read_json, run_unit, unit_is_valid
from fmbseg.vocabulary import read_classes
from studies.cells import Cell
from studies.talk2dino.alignment import Settings, TextToVision, means_by_head, train
from studies.talk2dino.captions import captions
from studies.talk2dino.method import Talk2DinoSegmentation

NAME = "talk2dino"
_CODE = Path(__file__).parent


class CaptionedRow:
    """Trains and scores the method for each seed; what is up to date is left alone."""

    def __init__(self, images: Cell, plain: Mapping[int, Cell], views: Sequence[str]) -> None:
        """Nothing is computed yet.

        Args:
            images: the cell whose drawn training images are captioned.
            plain: seed to the cell whose models, protocol and views are those of the table.
            views: what is scored.
        """
        self._images, self._plain, self._views = images, plain, views

    def run(self) -> None:
        """Bring all seeds up to date."""
        for seed, cell in self._plain.items():
            stale = [view for view in self._views if not self._valid(seed, view)]
            if not stale:
                continue
            torch.set_num_threads(cell.workspace.params.threads)
            models = models_of(cell.workspace)
            method = Talk2DinoSegmentation(models.clip, models.vision, self._head(seed))
            for view in stale:
                self._score(seed, view, method)

    def metrics(self, seed: int, view: str) -> dict[str, Any]:
        """A metric file."""
        return dict(read_json(self._folder(seed, view) / "metrics.json"))

    def _folder(self, seed: int, view: str) -> Path:
        return self._plain[seed].root.parent / NAME / view

    def _key(self, seed: int, view: str) -> UnitKey:
        workspace = self._plain[seed].workspace
        section = workspace.params.evaluate.model_dump(exclude={"methods", "data_sets"})
        inputs = dict(evaluation_sets.inputs(workspace, view))
        inputs["images"] = file_sha(self._images.workspace.download / MANIFEST)
        params = {
            "view": view, "seed": seed, **asdict(Settings()), **section,
            **models_params(workspace, "clip", "vision"),
            "input_short_side_px": workspace.params.train.input_short_side_px,
        }  # fmt: skip
        key = workspace.key("evaluate", inputs, params)
        own = {f"studies/{NAME}/{one.name}": file_sha(one) for one in _CODE.glob("*.py")}
        return UnitKey(key.inputs, key.params, {**key.code, **own}, key.packages)

    def _valid(self, seed: int, view: str) -> bool:
        return unit_is_valid(self._folder(seed, view), self._key(seed, view))

    def _head(self, seed: int) -> TextToVision:
        workspace, found = self._plain[seed].workspace, self._seen
        rng = np.random.default_rng(seed)
        said = [captions(one, found.class_names, rng, Settings().captions) for one in found.labels]
        different = sorted({caption for some in said for caption in some})
        place = {caption: index for index, caption in enumerate(different)}
        texts = models_of(workspace).clip.encode_text(different, ["{}"]).float().clone()
        of_images = [torch.tensor([place[caption] for caption in some]) for some in said]
        return train(found.means, texts, of_images, Settings(), seed)

    @cached_property
    def _seen(self) -> "_Seen":
        workspace = self._images.workspace
        return _Seen(workspace, models_of(workspace).vision)

    def _score(self, seed: int, view: str, method: Talk2DinoSegmentation) -> None:
        workspace, key = self._plain[seed].workspace, self._key(seed, view)
        data_set = evaluation_sets.open_evaluation_set(workspace, view)
        prepared = PreparedMethod(
            evaluate.protocol(workspace, data_set), method, data_set.classes,
            data_set.samples.background_index,
        )  # fmt: skip
        scratch = workspace.scratch(f"evaluate/{NAME}-{view}", key)

        def compute(out: Path) -> None:
            title = f"evaluate: {NAME} on {view}, seed {seed}"
            score(Evaluation(prepared, data_set, 0, seed), out, scratch, title)

        run_unit(self._folder(seed, view), key, compute, keep=scratch)


class _Seen:
    """The training images once: what the encoder's heads make of each, and its labels.

    Attributes:
        class_names: of the labels.
        labels: of each image; for its captions alone.
        means: [image head dim], see `means_by_head`.
    """

    def __init__(self, workspace: Workspace, vision: object) -> None:
        if not isinstance(vision, TimmVision):
            raise ValueError(f"{NAME}: found {type(vision).__name__}, wanted a ViT of timm")
        folder = workspace.download / "train"
        files = sorted((folder / "images").glob("*.png"))
        self.class_names = read_classes(workspace.classes_path()).names
        self.labels = [read_image(folder / "labels" / one.name)[:, :, 0] for one in files]
        means = [means_by_head(vision, read_image(one)) for one in files]
        self.means = torch.stack(means).clone()
