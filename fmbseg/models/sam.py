"""SAM by segment-anything: one image embedding, many prompts."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from segment_anything import sam_model_registry
from segment_anything.modeling import Sam
from segment_anything.utils.transforms import ResizeLongestSide
from torch import Tensor

from fmbseg.models.device import resolve_device
from fmbseg.models.images import require_rgb
from fmbseg.models.protocols import SamEmbedding, SamPrediction
from fmbseg.models.sam_architecture import build_sam_from_config
from fmbseg.models.weights import (
    MINIATURE_FOLDER,
    MissingWeightsError,
    ModelError,
    Source,
    load_all_weights,
    read_weights,
)
from fmbseg.types import Image

SAM_CONFIG = "sam_config.json"
_WEIGHTS = "sam.safetensors"
_URL = "https://dl.fbaipublicfiles.com/segment_anything/"


@dataclass(frozen=True)
class PublishedFile:
    """A published weight file; its name ends in the first digits of its MD5."""

    file: str
    md5: str
    about_bytes: int


PUBLISHED: dict[str, PublishedFile] = {
    "vit_b": PublishedFile("sam_vit_b_01ec64.pth", "01ec64d29a2fca3f0661936605ae66f8", 375_000_000),
    "vit_l": PublishedFile(
        "sam_vit_l_0b3195.pth", "0b3195507c641ddb6910d2bb5adee89c", 1_250_000_000
    ),
    "vit_h": PublishedFile(
        "sam_vit_h_4b8939.pth", "4b8939a88964f0f4ff5f5b2642c598a6", 2_565_000_000
    ),
}
"""By the registry's names."""


@dataclass(frozen=True)
class _Encoded:
    """What `SegmentAnything` keeps of an image.

    Attributes:
        features: output of the image encoder, on the model's device.
        input_hw: size after the longest side was scaled, px.
    """

    features: Float[Tensor, "1 channel rows cols"]
    input_hw: tuple[int, int]


class SegmentAnything:
    """A frozen `segment_anything` model behind `SamModel`.

    Attributes:
        model: the SAM, in `eval` mode, without gradients.
        grid_side: patches along one side of its encoder.
    """

    def __init__(self, model: Sam, device: torch.device) -> None:
        self.model = model.to(device).eval().requires_grad_(False)
        self.device = device
        self.grid_side: int = model.prompt_encoder.image_embedding_size[0]
        self._resize = ResizeLongestSide(model.image_encoder.img_size)
        with torch.inference_mode():
            self._dense_position = model.prompt_encoder.get_dense_pe()

    def embed(self, image: Image) -> SamEmbedding:
        """Run the image encoder once.

        The longest side is scaled to the encoder's size, the rest padded to a square, as
        `SamPredictor` does.

        Raises:
            ValueError: not an RGB image.
        """
        require_rgb(image)
        scaled = self._resize.apply_image(np.ascontiguousarray(image))
        pixels = torch.as_tensor(scaled, device=self.device).permute(2, 0, 1)[None].float()
        with torch.inference_mode():
            features = self.model.image_encoder(self.model.preprocess(pixels))
        encoded = _Encoded(features.clone(), (pixels.shape[2], pixels.shape[3]))
        return SamEmbedding((image.shape[0], image.shape[1]), encoded)

    def predict_points(
        self, embedding: SamEmbedding, points_xy_px: Float[np.ndarray, "prompt point 2"]
    ) -> SamPrediction:
        """Three masks for each set of joint positive points; all sets in one decoder call.

        Args:
            embedding: of the image.
            points_xy_px: x, y in px of the original image.

        Returns:
            Logits at a quarter of the encoder's size, padding included (`upscale` drops it), and
            SAM's quality estimates, on the model's device.

        Raises:
            ValueError: the points have another shape.
        """
        if points_xy_px.ndim != 3 or points_xy_px.shape[2] != 2 or 0 in points_xy_px.shape:
            raise ValueError(
                f"points_xy_px: found shape {points_xy_px.shape}, wanted [prompt point 2]"
            )
        scaled = self._resize.apply_coords(points_xy_px, embedding.image_hw)
        points = torch.as_tensor(scaled, dtype=torch.float32, device=self.device)
        positive = torch.ones(points.shape[:2], dtype=torch.int, device=self.device)
        with torch.inference_mode():
            sparse, dense = self.model.prompt_encoder(
                points=(points, positive), boxes=None, masks=None
            )
            logits, quality = self.model.mask_decoder(
                image_embeddings=embedding.encoded.features,
                image_pe=self._dense_position,
                sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense,
                multimask_output=True,
            )
        return SamPrediction(logits.float().clone(), quality.float().clone())

    def upscale(
        self, embedding: SamEmbedding, logits: Float[Tensor, "mask low_height low_width"]
    ) -> Float[Tensor, "mask height width"]:
        """Low-resolution logits to logits at the original image's size.

        A mask takes encoder size² + height · width floats meanwhile: pass the survivors of a
        filter, in batches.
        """
        with torch.inference_mode():
            full: Tensor = self.model.postprocess_masks(
                logits[None].to(self.device), embedding.encoded.input_hw, embedding.image_hw
            )[0]
        return full.clone()


def build_sam(
    name: str,
    checkpoint: str | Path | None = None,
    device: str | torch.device = "cpu",
    *,
    cache_dir: Path | None = None,
) -> SegmentAnything:
    """Build a frozen SAM; nothing is fetched.

    Args:
        name: of `sam_model_registry` (vit_b, vit_l, vit_h), "miniature", or "local-dir:<folder>"
            with sam_config.json and sam.safetensors.
        checkpoint: a file (torch or safetensors), or the bare name of a published file, which is
            looked for in `cache_dir`; None is random weights. Folders bring their own.
        device: "auto" or a device of torch.
        cache_dir: where published files lie; None is torch hub's checkpoint folder.

    Raises:
        MissingWeightsError: the weights are not here.
        ModelError: unknown name, or a file that cannot be read or is of another architecture.
    """
    target = resolve_device(device)
    return SegmentAnything(sam_model(name, checkpoint, cache_dir), target)


def sam_model(
    name: str,
    checkpoint: str | Path | None = None,
    cache_dir: Path | None = None,
    device: str = "cpu",
) -> Sam:
    """The segment_anything model with its weights; on "meta" it is only checked.

    Raises:
        MissingWeightsError: see `build_sam`.
        ModelError: see `build_sam`.
    """
    folder = sam_folder(name)
    if folder is None and name not in sam_model_registry:
        raise ModelError(
            f"models.sam.name: found {name!r}, wanted miniature, local-dir:<folder>, "
            f"{', '.join(sam_model_registry)}"
        )
    source = sam_source(name, checkpoint, cache_dir)
    path = source.require() if source.files else None
    with torch.device(device):
        model: Sam = sam_model_registry[name]() if folder is None else _folder_model(folder)
    if path is not None:
        what = source.what if path.name in source.what else f"{source.what} ({path.name})"
        load_all_weights(model, read_weights(path, device), what)
    return model


def sam_folder(name: str) -> Path | None:
    """The folder that a name stands for, or None for a name of the registry.

    Raises:
        MissingWeightsError: the folder lacks its config or weights.
    """
    if name == "miniature":
        folder, place = MINIATURE_FOLDER / "sam", "they belong to the package: reinstall fmbseg"
    elif name.startswith("local-dir:"):
        folder = Path(name.removeprefix("local-dir:"))
        place = f"put {SAM_CONFIG} and {_WEIGHTS} into {folder}"
    else:
        return None
    if not all((folder / file).is_file() for file in (SAM_CONFIG, _WEIGHTS)):
        raise MissingWeightsError(f"SAM {name}", place)
    return folder


def sam_source(name: str, checkpoint: str | Path | None, cache_dir: Path | None = None) -> Source:
    """Where the weights may lie; no files stand for random weights.

    Raises:
        MissingWeightsError: a folder lacks its files.
    """
    folder = sam_folder(name)
    if folder is not None:
        return Source(f"SAM {name}", (folder / _WEIGHTS,))
    if checkpoint is None:
        return Source(f"SAM {name}")
    what, own = f"SAM {name} ({checkpoint})", Path(checkpoint)
    published = next((one for one in PUBLISHED.values() if one.file == str(checkpoint)), None)
    if published is None:
        return Source(what, (own,), remedy=f"models.sam.checkpoint names no file: {checkpoint}")
    cached = (cache_dir or Path(torch.hub.get_dir()) / "checkpoints") / own
    return Source(
        what, (own, cached), address=f"{_URL}{checkpoint}", md5=published.md5,
        about_bytes=published.about_bytes,
    )  # fmt: skip


def _folder_model(folder: Path) -> Sam:
    path = folder / SAM_CONFIG
    try:
        return build_sam_from_config(json.loads(path.read_bytes()))
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, AssertionError) as error:
        line = " ".join(str(error).split())[:160]
        raise ModelError(f"{path}: describes no SAM ({line})") from None
