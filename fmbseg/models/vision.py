"""The vision encoder: any ViT of timm, DINOv2 above all."""

import sys
from pathlib import Path
from typing import Any

import timm
import torch
from jaxtyping import Float
from timm.models import VisionTransformer
from torch import Tensor, nn

from fmbseg.models.device import resolve_device
from fmbseg.models.images import ShortSide, normalised_pixels, patch_aligned_hw, require_rgb
from fmbseg.models.weights import (
    MINIATURE_FOLDER,
    MissingWeightsError,
    fetch_hub_file,
    find_hub_file,
    load_all_weights,
    read_weights,
)
from fmbseg.types import Image

_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_PLACE = (
    "set models.vision.pretrained to the file's path, or copy the Hugging Face cache of a machine "
    "that has it"
)


class TimmVision:
    """A frozen timm ViT behind `VisionModel`.

    Attributes:
        model: the ViT, in `eval` mode, without gradients.
        dim: size of a patch feature.
        patch_hw: size of a patch, px.
    """

    def __init__(
        self, model: VisionTransformer, device: torch.device, *, short_side_px: ShortSide = None
    ) -> None:
        """Freeze the model and move it to the device.

        Raises:
            ValueError: the model has no patches or no dynamic image size.
        """
        embed: Any = getattr(model, "patch_embed", None)
        if not hasattr(model, "num_prefix_tokens") or not hasattr(embed, "patch_size"):
            raise ValueError(f"vision encoder: found {type(model).__name__}, wanted a ViT of timm")
        self.model = model.to(device).eval().requires_grad_(False)
        self.device = device
        self.dim: int = model.embed_dim
        self.patch_hw: tuple[int, int] = tuple(embed.patch_size)
        best_hw = model.pretrained_cfg.get("test_input_size", (0, *embed.img_size))[1:]
        native_px = min(int(side) for side in best_hw)
        self._short_side_px = native_px if short_side_px == "auto" else short_side_px
        config = model.pretrained_cfg
        self._mean, self._std = tuple(config["mean"]), tuple(config["std"])
        self._interpolation: str = config.get("interpolation") or "bicubic"
        # Models that pool by the mean keep their last norm behind the pooling.
        pooled_norm: Any = getattr(model, "fc_norm", None)
        moved = isinstance(getattr(model, "norm", None), nn.Identity) and pooled_norm is not None
        self._late_norm: nn.Module = pooled_norm if moved else nn.Identity()

    def encode(self, image: Image) -> Float[Tensor, "rows cols dim"]:
        """Patch features after the final norm, float32 on the CPU, prefix tokens dropped.

        The image is resized so that its shortest side is about `short_side_px` (None: its own)
        and both sides are whole patches; position embeddings are interpolated to that grid.

        Args:
            image: RGB, 0 to 255, of any size.

        Raises:
            ValueError: not an RGB image.
        """
        require_rgb(image)
        height, width = image.shape[:2]
        size_hw = patch_aligned_hw(
            (height, width), self.patch_hw, self._short_side_px, self.patch_hw
        )
        pixels = normalised_pixels(image, size_hw, self._interpolation, self._mean, self._std)
        with torch.inference_mode():
            tokens = self.model.forward_features(pixels[None].to(self.device))[0]
            patches: Tensor = self._late_norm(tokens[self.model.num_prefix_tokens :])
        rows, cols = (side // patch for side, patch in zip(size_hw, self.patch_hw, strict=True))
        return patches.float().cpu().clone().view(rows, cols, self.dim)


def build_vision(
    name: str,
    pretrained: bool | str | Path = True,
    device: str | torch.device = "cpu",
    *,
    short_side_px: ShortSide = None,
    cache_dir: Path | None = None,
) -> TimmVision:
    """Build a frozen vision encoder.

    Args:
        name: a ViT of timm, "local-dir:<folder>", "hf-hub:<owner>/<name>" or "miniature".
        pretrained: True for the name's own weights, False for random ones, or a file.
        device: "auto" or a device of torch.
        short_side_px: images are resized to this; None keeps their own size, "auto" takes what
            the weights' configuration names for use (timm's `test_input_size`), else the size
            that the model was built for.
        cache_dir: of the Hugging Face cache; None is its default.

    Raises:
        MissingWeightsError: the weights are not here and may not or cannot be fetched.
        ValueError: unknown name, no weights are known for it, no ViT, or weights of another
            architecture.
    """
    target = resolve_device(device)
    folder = vision_folder(name, cache_dir)
    if isinstance(pretrained, bool):
        path = find_vision_weights(name, folder, cache_dir) if pretrained else None
    elif Path(pretrained).is_file():
        path = Path(pretrained)
    else:
        source = "that path, which is no file"
        raise MissingWeightsError(f"vision encoder {name} ({pretrained})", source, _PLACE)
    keywords: dict[str, Any] = {"num_classes": 0, "dynamic_img_size": True}
    try:
        source = name if folder is None else f"local-dir:{folder}"
        model = timm.create_model(source, pretrained=False, **keywords)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"models.vision.name: found {name!r}, wanted a ViT of timm") from error
    encoder = TimmVision(model, target, short_side_px=short_side_px)
    if path is not None:
        # The model's own module knows how its published weights are renamed and resized.
        adapt = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
        state = read_weights(path)
        state = state if adapt is None else adapt(state, model)
        load_all_weights(model, state, f"vision encoder {name} ({path.name})", _is_head)
    return encoder


def vision_folder(name: str, cache_dir: Path | None = None) -> Path | None:
    """The folder that a name stands for, or None for a name of timm's list.

    Raises:
        MissingWeightsError: the folder lacks its config.
    """
    if name.startswith("hf-hub:"):
        repo = name.removeprefix("hf-hub:")
        return fetch_hub_file(name, repo, ("config.json",), _PLACE, cache_dir).parent
    if name == "miniature":
        folder, source = MINIATURE_FOLDER / "vision", "the fmbseg package itself; reinstall it"
    elif name.startswith("local-dir:"):
        folder, source = Path(name.removeprefix("local-dir:")), "that folder"
    else:
        return None
    if not (folder / "config.json").is_file():
        place = f"put config.json and model.safetensors into {folder}"
        raise MissingWeightsError(f"vision encoder {name}", source, place)
    return folder


def find_vision_weights(name: str, folder: Path | None, cache_dir: Path | None = None) -> Path:
    """The weights of a name.

    Raises:
        MissingWeightsError: they are not here and may not or cannot be fetched.
        ValueError: none are known for the name.
    """
    what = f"vision encoder {name}"
    if name.startswith("hf-hub:"):
        repo = name.removeprefix("hf-hub:")
        return fetch_hub_file(what, repo, _HUB_FILES, _PLACE, cache_dir)
    if folder is not None:
        files = [folder / file for file in _HUB_FILES if (folder / file).is_file()]
        if not files:
            raise MissingWeightsError(what, "that folder", f"put model.safetensors into {folder}")
        return files[0]
    return fetch_hub_file(what, timm_repo(name), _HUB_FILES, _PLACE, cache_dir)


def timm_repo(name: str) -> str:
    """The Hugging Face repository of a name's weights.

    Raises:
        ValueError: timm knows no such name, or no weights for it.
    """
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError:  # the model is known, its tag is not
        config = None
    if config is None or not config.hf_hub_id:
        raise ValueError(
            f"models.vision.name: timm knows no weights for {name!r}; wanted a name such as "
            "vit_base_patch14_dinov2.lvd142m, or pretrained = a file"
        )
    return str(config.hf_hub_id)


def locate_vision(
    name: str, pretrained: bool | str | Path, cache_dir: Path | None = None
) -> tuple[bool, str]:
    """Whether the weights are here, and where they are or would come from; never downloads."""
    if not isinstance(pretrained, bool):
        return Path(pretrained).is_file(), str(pretrained)
    try:
        if name.startswith(("local-dir:", "miniature")):
            return True, str(find_vision_weights(name, vision_folder(name)))
        repo = name.removeprefix("hf-hub:") if ":" in name else timm_repo(name)
    except (MissingWeightsError, ValueError) as error:
        return False, str(error)
    found = find_hub_file(repo, _HUB_FILES, cache_dir)
    return found is not None, str(found or f"https://huggingface.co/{repo}; {_PLACE}")


def _is_head(key: str) -> bool:
    """Classifier weights and mask tokens, which no patch feature passes through."""
    return key.startswith(("head.", "head_dist.", "mask_token"))
