"""The public face of a trained model: load a folder, name classes, get a label map."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PilImage

from fmbseg import store
from fmbseg.align.head import AlignmentHead
from fmbseg.models.build import FoundationModels, build_profile_clip, build_profile_vision
from fmbseg.models.device import resolve_device
from fmbseg.params import ModelsParams
from fmbseg.segmenters.aligned import AlignedSegmentation
from fmbseg.types import Image, LabelMap

DESCRIPTION = "segmenter.json"


class Segmenter:
    """Open-vocabulary semantic segmentation with a trained alignment head.

    Attributes:
        segmentation: the method behind it.
        trained_classes: the names it was trained on; it answers for any others too.
    """

    def __init__(
        self, segmentation: AlignedSegmentation, trained_classes: Sequence[str] = ()
    ) -> None:
        """Wrap a composed method; `load` is the usual way."""
        self.segmentation = segmentation
        self.trained_classes = tuple(trained_classes)

    @staticmethod
    def load(
        folder: str | Path, device: str = "auto", *, models: FoundationModels | None = None
    ) -> "Segmenter":
        """Read what the train step wrote and build the models it was trained with.

        Args:
            folder: holds alignment.safetensors, alignment.json and segmenter.json ({"models":
                the section of params.yaml, "input_short_side_px", "trained_classes"}).
            device: "auto", "cpu", "cuda" or "mps".
            models: the same models, if the caller has them already. SAM is never needed.

        Raises:
            FileNotFoundError: the folder holds no trained model.
            MissingWeightsError: a foundation model's weights are not here.
        """
        folder, where = Path(folder), resolve_device(device)
        if not (folder / DESCRIPTION).is_file():
            raise FileNotFoundError(
                f"{folder / DESCRIPTION}: no trained model; run the train step, or name its folder"
            )
        description: dict[str, Any] = store.read_json(folder / DESCRIPTION)
        head = AlignmentHead.load(folder, str(where))
        classes = description.get("trained_classes", ())
        if models is not None:
            return Segmenter(AlignedSegmentation(models.vision, head, models.clip), classes)
        section = ModelsParams.model_validate(description["models"])
        overrides = {
            name: spec.model_dump(exclude_none=True)
            for name, spec in (("clip", section.clip), ("vision", section.vision))
            if spec is not None
        }
        clip = build_profile_clip(
            section.profile, overrides, projection=section.projection, template=section.template,
            device=where,
        )  # fmt: skip
        vision = build_profile_vision(
            section.profile, overrides, short_side_px=description["input_short_side_px"],
            device=where,
        )  # fmt: skip
        return Segmenter(AlignedSegmentation(vision, head, clip), classes)

    def predict(
        self,
        image: Image | PilImage.Image | str | Path,
        classes: Sequence[str],
        similarities: bool = False,
    ) -> LabelMap:
        """Give every pixel one of the named classes.

        Args:
            image: RGB uint8 [height width 3], a Pillow picture, or a file's path.
            classes: any names; nothing is trained for them.
            similarities: also answer the cosine per class and pixel.

        Returns:
            Labels at the image's size, indices into `classes`.

        Raises:
            ValueError: the image is none, or `classes` is empty or a single string.
        """
        if isinstance(classes, str):
            raise ValueError(f"classes: found the string {classes!r}; wanted a list of names")
        return self.segmentation.segment(_rgb(image), list(classes), similarities=similarities)


def _rgb(image: Image | PilImage.Image | str | Path) -> Image:
    if isinstance(image, str | Path):
        return store.read_image(image)
    if isinstance(image, PilImage.Image):
        return np.asarray(image.convert("RGB"))
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3:
        found = f"{getattr(image, 'dtype', type(image).__name__)} {getattr(image, 'shape', '')}"
        raise ValueError(f"image: found {found}; wanted uint8 [height width 3]")
    return image
