"""The vision encoder: any ViT of timm, DINOv2 above all."""

import contextlib
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

import timm
import torch
from jaxtyping import Float
from timm.models import VisionTransformer
from torch import Tensor, nn

from fmbseg.models.batches import Batches, BudgetGb, meter_of
from fmbseg.models.device import moved, pinned, resolve_device
from fmbseg.models.images import (
    ShortSide,
    normalised_pixels,
    patch_aligned_hw,
    require_rgb,
    resized_image,
)
from fmbseg.models.precision import Precision, encoding
from fmbseg.models.tensor_files import load_all_weights, read_weights
from fmbseg.models.tiles import Tile
from fmbseg.models.vision_weights import vision_folder, vision_source
from fmbseg.models.weights import ModelError
from fmbseg.types import Image


class TimmVision:
    """A frozen timm ViT behind `VisionModel`.

    Attributes:
        model: the ViT, in `eval` mode, without gradients.
        dim: size of a patch feature.
        patch_hw: size of a patch, px.
        short_side_px: what an image's short side is brought to; None keeps it.
        mean: of each channel, of values in 0–1; with `std` the normalisation.
        std: of each channel.
        interpolation: by which images are resized, "bicubic" or "bilinear".
        late_norm: the norm that a model which pools by the mean keeps behind the pooling.
        precision: that it computes in; its answers are float32.
        images_at_once: see `TakesSeveral`.
    """

    def __init__(
        self,
        model: VisionTransformer,
        device: torch.device,
        *,
        short_side_px: ShortSide = None,
        precision: Precision = "float32",
        batch_memory_gb: BudgetGb = "auto",
    ) -> None:
        """Freeze the model and move it to the device."""
        embed: Any = model.patch_embed
        self.model = model.to(device).eval().requires_grad_(False)
        self.device, self.precision = device, precision
        self._batches = Batches("vision encoder", meter_of(device), batch_memory_gb)
        self.images_at_once = self._batches.images
        self.dim: int = model.embed_dim
        self.patch_hw: tuple[int, int] = tuple(embed.patch_size)
        best_hw = model.pretrained_cfg.get("test_input_size", (0, *embed.img_size))[1:]
        native_px = min(int(side) for side in best_hw)
        self.short_side_px = native_px if short_side_px == "auto" else short_side_px
        config = model.pretrained_cfg
        self.mean, self.std = tuple(config["mean"]), tuple(config["std"])
        self.interpolation: str = config.get("interpolation") or "bicubic"
        pooled_norm: Any = getattr(model, "fc_norm", None)
        moved = isinstance(getattr(model, "norm", None), nn.Identity) and pooled_norm is not None
        self.late_norm: nn.Module = pooled_norm if moved else nn.Identity()

    def encode(self, image: Image) -> Float[Tensor, "rows cols dim"]:
        """Patch features after the final norm, float32 on the CPU, prefix tokens dropped.

        The image is resized so that its shortest side is about `short_side_px` (None: its own)
        and both sides are whole patches; position embeddings are interpolated to that grid.

        Args:
            image: RGB, 0 to 255, of any size.

        Raises:
            ValueError: not an RGB image.
        """
        return self.encode_prepared([self.prepare(image)])[0]

    def prepare(self, image: Image) -> Float[Tensor, "3 new_height new_width"]:
        """The image as `encode_prepared` wants it, resized and normalised, on the CPU.

        Raises:
            ValueError: not an RGB image.
        """
        require_rgb(image)
        height, width = image.shape[:2]
        rows, cols = self.grid_hw((height, width))
        size_hw = (rows * self.patch_hw[0], cols * self.patch_hw[1])
        pixels = normalised_pixels(image, size_hw, self.interpolation, self.mean, self.std)
        return pinned(pixels, self.device)

    def encode_prepared(
        self, prepared: Sequence[Float[Tensor, "3 _height _width"]]
    ) -> list[Float[Tensor, "_rows _cols dim"]]:
        """`encode` of several images in order; those of one size go through together."""
        of_size: dict[tuple[int, ...], list[int]] = defaultdict(list)
        for index, pixels in enumerate(prepared):
            of_size[tuple(pixels.shape)].append(index)
        found: dict[int, Tensor] = {}
        for shape, indices in of_size.items():
            grid_hw = (shape[1] // self.patch_hw[0], shape[2] // self.patch_hw[1])
            each = self._batches.over([prepared[i] for i in indices], self._patches, prod(shape))
            patches = (one for _, some in each for one in some.cpu().clone())
            for index, one in zip(indices, patches, strict=True):
                found[index] = one.view(*grid_hw, self.dim)
        return [found[index] for index in range(len(prepared))]

    def encode_tiles(
        self, image: Image, tiles: Sequence[Tile]
    ) -> Iterator[Float[Tensor, "_rows _cols dim"]]:
        """Patch features of parts of an image, each encoded by itself at the scale of the whole.

        Args:
            image: RGB, 0 to 255, of any size.
            tiles: parts of its grid of patches, see `grid_hw`.

        Raises:
            ValueError: not an RGB image.
        """
        require_rgb(image)
        height, width = self.patch_hw
        rows, cols = self.grid_hw((image.shape[0], image.shape[1]))
        whole = resized_image(image, (rows * height, cols * width), self.interpolation)
        for tile in tiles:
            part = whole[
                tile.top * height : (tile.top + tile.rows) * height,
                tile.left * width : (tile.left + tile.cols) * width,
            ]
            size_hw = (part.shape[0], part.shape[1])
            pixels = normalised_pixels(part, size_hw, self.interpolation, self.mean, self.std)
            yield self.encode_prepared([pinned(pixels, self.device)])[0]

    def _patches(
        self, pixels: Sequence[Float[Tensor, "3 height width"]]
    ) -> Float[Tensor, "image patch dim"]:
        with encoding(self.device, self.precision):
            batch = torch.stack([moved(one, self.device) for one in pixels])
            tokens = self.model.forward_features(batch)
            patches: Tensor = self.late_norm(tokens[:, self.model.num_prefix_tokens :])
            return patches.float()

    def grid_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of patches of an image of that size, px; nothing is computed."""
        size_hw = patch_aligned_hw(image_hw, self.patch_hw, self.short_side_px, self.patch_hw)
        return size_hw[0] // self.patch_hw[0], size_hw[1] // self.patch_hw[1]


def build_vision(
    name: str,
    pretrained: bool | str | Path = True,
    device: str | torch.device = "cpu",
    *,
    short_side_px: ShortSide = None,
    precision: Precision = "float32",
    batch_memory_gb: BudgetGb = "auto",
) -> TimmVision:
    """Build a frozen vision encoder; nothing is fetched.

    Args:
        name: a ViT of timm, "local-dir:<folder>", "hf-hub:<owner>/<name>" or "miniature".
        pretrained: True for the name's own weights, False for random ones, or a file.
        device: "auto" or a device of torch.
        short_side_px: images are resized to this; None keeps their own size, "auto" takes what
            the weights' configuration names for use (timm's `test_input_size`), else the size
            that the model was built for.
        precision: that it computes in.
        batch_memory_gb: for the images that go through at once; see `Batches`.

    Raises:
        MissingWeightsError: the weights are not here.
        ModelError: unknown name, no weights are known for it, no ViT, or a file that cannot be
            read or is of another architecture.
    """
    target = resolve_device(device)
    return TimmVision(
        vision_model(name, pretrained), target, short_side_px=short_side_px, precision=precision,
        batch_memory_gb=batch_memory_gb,
    )  # fmt: skip


def vision_model(
    name: str, pretrained: bool | str | Path = True, device: str = "cpu"
) -> VisionTransformer:
    """The timm model with its weights; on "meta" it is only checked.

    Raises:
        MissingWeightsError: see `build_vision`.
        ModelError: see `build_vision`.
    """
    folder = vision_folder(name)
    source = vision_source(name, pretrained)
    path = None if pretrained is False else source.require()
    keywords: dict[str, Any] = {"num_classes": 0, "dynamic_img_size": True}
    try:
        with torch.device(device):
            model: VisionTransformer = timm.create_model(
                name if folder is None else f"local-dir:{folder}", pretrained=False, **keywords
            )
    except (RuntimeError, TypeError, ValueError, KeyError, AttributeError, AssertionError) as error:
        line = " ".join(str(error).split())[:120]
        raise ModelError(
            f"models.vision.name: found {name!r}, wanted a ViT of timm ({line})"
        ) from error
    embed = getattr(model, "patch_embed", None)
    if not hasattr(model, "num_prefix_tokens") or not hasattr(embed, "patch_size"):
        raise ModelError(f"vision encoder: found {type(model).__name__}, wanted a ViT of timm")
    if path is not None:
        # The model's own module knows how its published weights are renamed and resized.
        adapt = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
        state = read_weights(path, device)
        if adapt is not None:
            # What cannot be adapted is put in words by the comparison of names and shapes.
            with contextlib.suppress(KeyError, RuntimeError, ValueError, IndexError, TypeError):
                state = adapt(state, model)
        load_all_weights(model, state, f"{source.what} ({path.name})", _is_head)
    return model


def _is_head(key: str) -> bool:
    """Classifier weights and mask tokens, which no patch feature passes through."""
    return key.startswith(("head.", "head_dist.", "mask_token"))
