"""GroupViT by transformers: patches that group themselves, groups compared with class names."""

from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any, Self

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from fmbseg.methods.base import Prompts, TextFeatures, label_pixels
from fmbseg.models.device import resolve_device
from fmbseg.models.images import normalised_pixels, require_rgb
from fmbseg.models.weights import MissingWeightsError, fetch_hub_file
from fmbseg.store import read_json
from fmbseg.types import Image, LabelMap

TEMPLATE = "a photo of a {}."
_FILES: tuple[tuple[str, ...], ...] = (
    ("config.json",),
    ("model.safetensors", "pytorch_model.bin"),
    ("tokenizer.json", "vocab.json"),
    ("tokenizer.json", "merges.txt"),
    ("preprocessor_config.json",),
)
"""What a folder must hold, alternatives in order of preference."""


class GroupVitSegmentation:
    """A `transformers.GroupViTModel` with its tokenizer; all of it frozen.

    The image is squeezed to the square the model was built for: transformers runs GroupViT at no
    other size. For large or long images put it into windows (`SlidingSegmentation`).

    Attributes:
        name: what its results are filed under.

    Paper: a baseline of section 4.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        template: str = TEMPLATE,
        name: str = "groupvit",
    ) -> None:
        """Freeze the model where it lies.

        Args:
            model: a `GroupViTModel`.
            tokenizer: the one it was trained with.
            mean: per channel, of values in 0 to 1.
            std: per channel, of values in 0 to 1.
            template: one `{}` stands for the class name.
            name: what its results are filed under.
        """
        self.name = name
        self._model = model.eval().requires_grad_(False)
        self._mean, self._std = tuple(mean), tuple(std)
        self._side_px: int = model.config.vision_config.image_size
        self._texts = TextFeatures(_GroupVitText(self._model, tokenizer, template))

    def prompted(self, prompts: Prompts) -> Self:
        """The same method with its class names put into words another way."""
        twin = copy(self)
        twin._texts = self._texts.prompted(prompts)
        return twin

    @torch.inference_mode()
    def segment(
        self, image: Image, class_names: Sequence[str], *, similarities: bool = False
    ) -> LabelMap:
        """Best class of every pixel; see `Segmentation`.

        The similarities are cosines of the pixel's groups, weighed by how much it belongs to
        each: the model's `segmentation_logits` over its squared logit scale.

        Raises:
            ValueError: not an RGB image.
        """
        require_rgb(image)
        side = (self._side_px, self._side_px)
        pixels = normalised_pixels(image, side, "bicubic", self._mean, self._std)
        grid = self._similarities(pixels, self._texts(class_names))
        return label_pixels(grid, image.shape[:2], class_names, similarities=similarities)

    def _similarities(
        self, pixels: Float[Tensor, "3 side side"], texts: Float[Tensor, "category dim"]
    ) -> Float[Tensor, "category side side"]:
        from transformers.models.groupvit.modeling_groupvit import get_grouping_from_attentions

        batch = pixels[None].to(self._model.device)
        found = self._model.vision_model(pixel_values=batch, output_attentions=True)
        groups = normalize(self._model.visual_projection(found.last_hidden_state[0]).float(), dim=1)
        grouping = get_grouping_from_attentions(found.attentions, batch.shape[2:])[0].float()
        return torch.einsum("kd,gd,grc->krc", texts, groups.cpu(), grouping.cpu())


class _GroupVitText:
    """The text side of the model behind `TextEncoder`."""

    def __init__(self, model: Any, tokenizer: Any, template: str) -> None:
        self._model, self._tokenizer, self._template = model, tokenizer, template

    def encode_text(
        self, names: Sequence[str], templates: Sequence[str] | None = None
    ) -> Float[Tensor, "category dim"]:
        chosen = [self._template] if templates is None else list(templates)
        features = torch.stack([self._through(template, names) for template in chosen])
        return features[0] if len(chosen) == 1 else normalize(features.mean(dim=0), dim=1)

    def _through(self, template: str, names: Sequence[str]) -> Float[Tensor, "category dim"]:
        tokens = self._tokenizer(
            [template.format(name) for name in names],
            padding=True,
            truncation=True,
            max_length=self._model.config.text_config.max_position_embeddings,
            return_tensors="pt",
        ).to(self._model.device)
        found = self._model.get_text_features(
            input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]
        )
        return normalize(found.pooler_output.float(), dim=1).cpu()


def build_groupvit(
    name: str,
    device: str | torch.device = "cpu",
    *,
    template: str = TEMPLATE,
    cache_dir: Path | None = None,
) -> GroupVitSegmentation:
    """Build a frozen GroupViT.

    Args:
        name: "local-dir:<folder>" as transformers saves it, or "hf-hub:<owner>/<name>", for
            instance hf-hub:nvidia/groupvit-gcc-yfcc (its terms are its owner's).
        device: "auto" or a device of torch.
        template: one `{}` stands for the class name.
        cache_dir: of the Hugging Face cache; None is its default.

    Raises:
        MissingWeightsError: the weights are not here and may not or cannot be fetched.
        ImportError: transformers is not installed.
        ValueError: another form of name, or weights that leave a part of the model random.
    """
    folder = _folder(name, cache_dir)
    try:
        from transformers import CLIPTokenizer, GroupViTModel
    except ImportError as error:
        raise ImportError(
            "GroupViT needs transformers, which is not installed; pip install 'fmbseg[groupvit]'"
        ) from error
    model, loading = GroupViTModel.from_pretrained(
        folder, local_files_only=True, output_loading_info=True
    )
    lost = sorted(str(key) for key in loading["missing_keys"])
    if lost or loading["mismatched_keys"]:
        raise ValueError(
            f"{name}: the weights do not fit the architecture; missing {lost[:3]} "
            f"({len(lost)} keys), of another shape {sorted(loading['mismatched_keys'])[:3]}"
        )
    preprocessing = read_json(folder / "preprocessor_config.json")
    return GroupVitSegmentation(
        model.to(resolve_device(device)),
        CLIPTokenizer.from_pretrained(folder, local_files_only=True),
        mean=preprocessing["image_mean"],
        std=preprocessing["image_std"],
        template=template,
    )


def _folder(name: str, cache_dir: Path | None) -> Path:
    """Where the model's files lie, fetched if that is allowed."""
    kind, _, place = name.partition(":")
    if kind not in ("local-dir", "hf-hub") or not place:
        raise ValueError(
            f"groupvit: found the name {name!r}; wanted local-dir:<folder> or hf-hub:<owner>/<name>"
        )
    wanted = ", ".join(" or ".join(names) for names in _FILES)
    if kind == "hf-hub":
        by_hand = (
            f"download {wanted} of {place}, put them into a folder and name it local-dir:<folder>"
        )
        found = [
            fetch_hub_file(f"GroupViT {name}", place, names, cache_dir, by_hand) for names in _FILES
        ]
        return found[0].parent
    folder = Path(place)
    if not all(any((folder / file).is_file() for file in names) for names in _FILES):
        raise MissingWeightsError(f"GroupViT {name}", f"put {wanted} into {folder}")
    return folder
