"""The one trained part: a transformer block and a linear map from vision to text space."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn import functional

from fmbseg.align.settings import CONFIG, WEIGHTS
from fmbseg.store import load_safetensors, read_json, save_safetensors, write_json


class AlignmentHead(nn.Module):
    """One pre-norm transformer block with self-attention, a norm and a linear map to text space.

    It sees no text, so it stays open-vocabulary, and it knows no positions (the encoder's
    features carry them), so any grid will do. The norms have no scale and shift of their own: the
    linear map behind each can express both.

    Attributes:
        vision_dim: length of the encoder's patch features; a multiple of `heads`.
        text_dim: length of the text features.
        heads: heads of the self-attention.
        mlp_ratio: hidden width of the block's MLP in multiples of `vision_dim`.

    Paper: section 3.2; heads and mlp_ratio are not published to us.
    """

    def __init__(
        self,
        vision_dim: int,
        text_dim: int,
        heads: int = 4,
        mlp_ratio: float = 4.0,
        *,
        generator: torch.Generator | None = None,
    ) -> None:
        """Build with Xavier-uniform weights drawn from `generator` and biases of 0.

        The two branches of the block end in weights of 0: at first the head is its linear map
        alone, which trains smoothly and much alike from any draw (docs/decisions.md).

        Raises:
            ValueError: `vision_dim` is no multiple of `heads`.
        """
        super().__init__()
        if heads < 1 or vision_dim % heads:
            raise ValueError(
                f"train.heads: found {heads}; wanted a divisor of the vision encoder's width "
                f"{vision_dim}"
            )
        self.vision_dim, self.text_dim = vision_dim, text_dim
        self.heads, self.mlp_ratio = heads, mlp_ratio
        hidden = max(1, round(vision_dim * mlp_ratio))
        self.query = nn.Linear(vision_dim, vision_dim)
        self.key_value = nn.Linear(vision_dim, 2 * vision_dim)
        self.attended = nn.Linear(vision_dim, vision_dim)
        self.expand = nn.Linear(vision_dim, hidden)
        self.contract = nn.Linear(hidden, vision_dim)
        self.to_text = nn.Linear(vision_dim, text_dim)
        for layer in self.children():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight, generator=generator)
                nn.init.zeros_(layer.bias)
        for last in (self.attended, self.contract):
            nn.init.zeros_(last.weight)

    def forward(
        self,
        features: Float[Tensor, "image patch vision_dim"],
        wanted: Int64[Tensor, "image wanted"] | None = None,
    ) -> Float[Tensor, "image wanted text_dim"]:
        """Map patch features into the text space.

        Args:
            features: the frozen encoder's patches; all patches of an image see each other.
            wanted: indices of the patches whose output is needed (the labelled ones in training);
                the others then serve as keys and values only, which changes no result.

        Returns:
            Unit-length features of the wanted patches; of all patches when `wanted` is None.
        """
        seen = normed(features)
        if wanted is not None:
            index = wanted.unsqueeze(-1).expand(-1, -1, self.vision_dim)
            features = features.gather(1, index)
        return self.answer(features, seen)

    def answer(
        self,
        asking: Float[Tensor, "image wanted vision_dim"],
        seen: Float[Tensor, "image patch vision_dim"],
    ) -> Float[Tensor, "image wanted text_dim"]:
        """The same for patches at hand, as the encoder gave them.

        Args:
            asking: the patches whose output is needed.
            seen: all patches of their images, `normed`.
        """
        few = asking.shape[1] * self.heads < self.vision_dim
        mixed = (self._attend_few if few else self._attend)(normed(asking), seen)
        stream = asking + self.attended(mixed)
        stream = stream + self.contract(functional.gelu(self.expand(normed(stream))))
        aligned: Tensor = functional.normalize(self.to_text(normed(stream)), dim=-1)
        return aligned

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, to rebuild the head."""
        return {
            "vision_dim": self.vision_dim,
            "text_dim": self.text_dim,
            "heads": self.heads,
            "mlp_ratio": self.mlp_ratio,
        }

    def save(self, folder: Path) -> None:
        """Write `alignment.safetensors` and `alignment.json` into the folder."""
        save_safetensors(folder / WEIGHTS, self.state_dict())
        write_json(folder / CONFIG, self.config())

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> "AlignmentHead":
        """Read a saved head, in `eval` mode on the device.

        Raises:
            FileNotFoundError: the folder holds no trained head.
        """
        for name in (WEIGHTS, CONFIG):
            if not (folder / name).is_file():
                raise FileNotFoundError(f"{folder / name}: no trained head; run the train step")
        head = cls(**read_json(folder / CONFIG))
        head.load_state_dict(load_safetensors(folder / WEIGHTS))
        return head.to(device).eval()

    def _attend(self, asking: Tensor, seen: Tensor) -> Tensor:
        """Self-attention of some patches over all: [image wanted dim], [image patch dim]."""
        key, value = self.key_value(seen).chunk(2, dim=-1)
        mixed = functional.scaled_dot_product_attention(
            self._split(self.query(asking)), self._split(key), self._split(value)
        )
        joined: Tensor = mixed.transpose(1, 2).flatten(2)
        return joined

    def _attend_few(self, asking: Tensor, seen: Tensor) -> Tensor:
        """The same where few patches ask: no patch is projected to a key or a value.

        q.(W_k x) is (q W_k).x, and the mean of W_v x is W_v of the mean of x. The keys' bias moves
        all scores of a query alike and falls out; the values' bias is added once, since weights
        sum to 1. Products: 2 wanted heads patch dim, in place of 2 patch dim dim.
        """
        key, value = self.key_value.weight.unflatten(0, (2, self.heads, -1))
        query = self._split(self.query(asking)) * (self.vision_dim // self.heads) ** -0.5
        asked = (query @ key).flatten(1, 2)
        weights = (asked @ seen.transpose(1, 2)).softmax(-1)
        means = (weights @ seen).unflatten(1, (self.heads, -1))
        mixed = (means @ value.transpose(1, 2)).transpose(1, 2).flatten(2)
        moved: Tensor = mixed + self.key_value.bias[self.vision_dim :]
        return moved

    def _split(self, features: Tensor) -> Tensor:
        """[image patch dim] -> [image head patch dim/head]."""
        split: Tensor = features.unflatten(-1, (self.heads, -1))
        return split.transpose(1, 2)


def normed(features: Float[Tensor, "*patch dim"]) -> Float[Tensor, "*patch dim"]:
    """Patches of mean 0 and variance 1, each by itself."""
    return functional.layer_norm(features, features.shape[-1:])
