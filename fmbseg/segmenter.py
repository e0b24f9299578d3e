"""The public face of a trained model: load a folder, name classes, get a label map."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image as PilImage

from fmbseg.hub.fetch import fetched
from fmbseg.hub.names import HubName, is_hub_name
from fmbseg.methods.aligned import AlignedSegmentation, EncodedImage, cosines
from fmbseg.methods.pixel_refinement import Refined, refined
from fmbseg.methods.pixels import label_or_none, label_pixels
from fmbseg.methods.refined import Refine
from fmbseg.models.build import FoundationModels, build_model
from fmbseg.models.device import resolve_device
from fmbseg.models.precision import Precision, resolve_precision
from fmbseg.models.trust import trusted_overrides
from fmbseg.pictures.prediction import Prediction
from fmbseg.store import read_image
from fmbseg.store.names import printable
from fmbseg.trained_files import models_section, read_trained
from fmbseg.types import Image, Images
from fmbseg.vocabulary import Vocabulary, joined

Classes = Vocabulary | Sequence[str] | Sequence[Sequence[str]] | Sequence[str | Sequence[str]]
"""Class names: with or without synonyms."""
_LISTED = 12
"""So many classes a segmenter names of those that it was trained on."""


class Segmenter:
    """Open-vocabulary semantic segmentation with a trained alignment head.

    Attributes:
        segmentation: the method behind it.
        trained_classes: the names it was trained on; it answers for any others too.
        trained_vocabulary: the same with their synonyms; None where the names are not known.
        temperature: of the training's softmax, which `confidence` is measured in; None where it
            is not known.
    """

    def __init__(
        self,
        segmentation: AlignedSegmentation,
        trained_classes: Sequence[str] = (),
        trained_synonyms: Sequence[Sequence[str]] = (),
        temperature: float | None = None,
    ) -> None:
        """Wrap a composed method; `load` is the usual way."""
        self.segmentation = segmentation
        self.trained_classes = tuple(trained_classes)
        self.trained_vocabulary = None
        if self.trained_classes:
            others = tuple(tuple(names) for names in trained_synonyms)
            self.trained_vocabulary = Vocabulary(self.trained_classes, others)
        self.temperature = temperature

    def __repr__(self) -> str:
        """Device and classes of the training."""
        head = next(self.segmentation.head.parameters())
        names = list(self.trained_classes)
        listed = ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
        trained = f"trained on {len(names)} classes: {listed}; " if names else ""
        return printable(f"Segmenter ({trained}on {head.device}, answers for any class names)")

    @staticmethod
    def load(
        folder: str | Path,
        device: str = "auto",
        *,
        precision: Literal["auto"] | Precision = "auto",
        models: FoundationModels | None = None,
        allow_paths: bool = False,
    ) -> "Segmenter":
        """Read what the train step wrote and build the models it was trained with.

        Args:
            folder: holds alignment.safetensors, alignment.json and segmenter.json ({"models":
                the section of params.yaml, "input_short_side_px", "trained_classes", "synonyms":
                other names of each class, "temperature"}).
            device: "auto", "cpu", "cuda" or "mps".
            precision: of the encoders: "auto" (float32, on CUDA bfloat16 or else float16),
                "float32", "bfloat16" or "float16"; similarities are float32 in any case.
            models: the same models, if the caller has them already. SAM is never needed.
            allow_paths: open the model folders and files outside `folder` that segmenter.json
                names; see `fmbseg.models.trust` for those that need no leave.

        Raises:
            FileNotFoundError: the folder holds no trained model.
            StoreError: its files are damaged or do not belong together.
            MissingWeightsError: a foundation model's weights are not here.
            UntrustedPathError: segmenter.json names a path that nobody vouches for.
            HubError: what a hub is asked for is not there, or no network may be used.
        """
        where = resolve_device(device)
        folder = fetched(HubName.parse(str(folder))) if is_hub_name(folder) else Path(folder)
        head, description = read_trained(folder, str(where), whole=models is None)
        classes, synonyms = (description.get(key, ()) for key in ("trained_classes", "synonyms"))
        temperature = description.get("temperature")
        if models is not None:
            method = AlignedSegmentation(models.vision, head, models.clip)
            return Segmenter(method, classes, synonyms, temperature)
        section = models_section(folder, description)
        overrides = section.model_dump(include={"clip", "vision"}, exclude_none=True)
        overrides = trusted_overrides(overrides, folder, allow_paths=allow_paths)
        run: dict[str, Any] = {"device": where, "precision": resolve_precision(precision, where)}
        clip = build_model(
            "clip", section.profile, overrides, projection=section.projection,
            template=section.template, **run,
        )  # fmt: skip
        vision = build_model(
            "vision", section.profile, overrides,
            short_side_px=description["input_short_side_px"], **run,
        )  # fmt: skip
        method = AlignedSegmentation(vision, head, clip)
        return Segmenter(method, classes, synonyms, temperature)

    @property
    def images_at_once(self) -> int:
        """So many images are worth giving to `encode` together; 1 on a processor."""
        return self.segmentation.images_at_once

    def encode(self, images: Images) -> Iterator[EncodedImage]:
        """The part of `predict` that hangs on the image alone, for several questions about one.

        Args:
            images: RGB uint8 [height width 3]; those of one size go through the encoder together
                where the device takes several, which can change the last digits of the answer.

        Raises:
            ValueError: one is no such image.
        """
        pixels = [_rgb(image) for image in images]
        for image, features in zip(pixels, self.segmentation.aligned(pixels), strict=True):
            yield EncodedImage(features, (image.shape[0], image.shape[1]))

    def predict(
        self,
        image: Image | PilImage.Image | str | Path | EncodedImage,
        classes: Classes,
        similarities: bool = False,
        *,
        background: Classes = (),
        min_similarity: float | None = None,
        scores: bool = False,
        refine: Refine = "none",
    ) -> Prediction:
        """Give every pixel one of the named classes, or none of them where that is allowed.

        Args:
            image: RGB uint8 [height width 3], a Pillow picture, a file's path, or what `encode`
                made of an image: then nothing but the words is computed.
            classes: any names, nothing is trained for them: a vocabulary (`read_classes` makes one
                of a class file), or a sequence with a name or a sequence of names for each class.
                Of several names the mean text feature counts, as in training and evaluation.
            similarities: also answer the cosine per class and pixel.
            background: names, in the same forms, that compete with the classes; a pixel that one
                of them wins is none of the classes.
            min_similarity: a cosine, -1 to 1; a pixel whose best class is below is none of them.
            scores: also answer `best_similarity` and `confidence`.
            refine: "none" interpolates similarities, as the paper does; "fast" then moves the
                borders of classes to the image's edges, see `fmbseg.methods.pixel_refinement`.

        Returns:
            Labels at the image's size, indices into `classes`; IGNORE (255) for none of them.
            Jupyter shows it as a picture with a legend.

        Raises:
            ValueError: the image is none; `classes` is empty, a single string or a path; a name is
                class and background; `min_similarity` is no cosine; or what `encode` made is to be
                refined, which takes the image.
        """
        wanted, rivals = _classes(classes), _classes(background, "background")
        if min_similarity is not None and not -1 <= min_similarity <= 1:
            raise ValueError(f"min_similarity: found {min_similarity}; wanted a cosine, -1 to 1")
        given = image if isinstance(image, EncodedImage) else _rgb(image)
        shown = None if isinstance(given, EncodedImage) else given
        if refine != "none" and shown is None:
            raise ValueError(f"refine: found {refine!r} of an encoded image; wanted the image")
        texts = self.segmentation.encode_names(wanted)
        if rivals:
            joined(Vocabulary.of(_names(wanted)), Vocabulary.of(_names(rivals)))
            texts = torch.cat([texts, self.segmentation.encode_names(rivals)])
        names = wanted.names if isinstance(wanted, Vocabulary) else wanted
        encoded = given if isinstance(given, EncodedImage) else next(self.encode([given]))
        patches = cosines(encoded.features, texts)
        grid = patches if shown is None or refine == "none" else refined(patches, shown)
        if not (rivals or scores) and min_similarity is None:
            if isinstance(grid, Refined) and not similarities:
                return Prediction.of(grid.labels(encoded.image_hw, names), shown)
            found = label_pixels(grid, encoded.image_hw, names, similarities=similarities)
            return Prediction.of(found, shown)
        found = label_or_none(
            grid, encoded.image_hw, names, min_similarity=min_similarity,
            temperature=self.temperature if scores else None, similarities=similarities,
        )  # fmt: skip
        return Prediction.of(found if scores else replace(found, best_similarity=None), shown)


def _classes(given: Classes, what: str = "classes") -> tuple[str, ...] | Vocabulary:
    """Plain names, or a vocabulary where a class has synonyms."""
    if isinstance(given, str):
        raise ValueError(f"{what}: found the string {given!r}; wanted a list of names")
    if isinstance(given, Path):
        raise ValueError(f"{what}: found the path {given}; wanted names, or read_classes(path)")
    if not isinstance(given, Vocabulary):
        names = tuple(one for one in given if isinstance(one, str))
        if len(names) == len(given):
            return names
        given = Vocabulary.of(given)
    return given if any(given.synonyms) else given.names


def _names(classes: tuple[str, ...] | Vocabulary) -> Sequence[str | Sequence[str]]:
    return classes.groups if isinstance(classes, Vocabulary) else classes


def _rgb(image: Image | PilImage.Image | str | Path) -> Image:
    if isinstance(image, str | Path):
        return read_image(image)
    if isinstance(image, PilImage.Image):
        return np.asarray(image.convert("RGB"))
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3:
        found = f"{getattr(image, 'dtype', type(image).__name__)} {getattr(image, 'shape', '')}"
        raise ValueError(f"image: found {found}; wanted uint8 [height width 3]")
    return image
