"""The trained part: from CLIP's text features to the vision encoder's, learned from captions.

Source: Barsellotti et al., Talking to DINO, arXiv 2411.19331. Our implementation.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from fmbseg.models.vision import TimmVision
from fmbseg.types import Image


class TextToVision(nn.Module):
    """Two linear maps with a tanh between them."""

    def __init__(self, text_dim: int, vision_dim: int, generator: torch.Generator) -> None:
        """Draw the weights as torch does for linear maps, from the generator."""
        super().__init__()
        self.first, self.last = nn.Linear(text_dim, vision_dim), nn.Linear(vision_dim, vision_dim)
        with torch.no_grad():
            for layer in (self.first, self.last):
                bound = layer.in_features**-0.5
                layer.weight.uniform_(-bound, bound, generator=generator)
                layer.bias.uniform_(-bound, bound, generator=generator)

    def forward(self, texts: Float[Tensor, "text text_dim"]) -> Float[Tensor, "text dim"]:
        """Unit-length features beside the encoder's patches."""
        moved: Tensor = normalize(self.last(torch.tanh(self.first(texts))), dim=1)
        return moved


@torch.inference_mode()
def means_by_head(vision: TimmVision, image: Image) -> Float[Tensor, "head dim"]:
    """The encoder's patches, averaged as each head's class token attends to them in the last block.

    Raises:
        ValueError: an encoder without a class token.
    """
    model: Any = vision.model
    prefix, heads = model.num_prefix_tokens, model.blocks[-1].attn.num_heads
    if not getattr(model, "has_class_token", prefix > 0):
        raise ValueError("talk2dino: found a vision encoder without a class token, wanted one")
    pixels = vision.prepare(image)[None].to(vision.device)
    ((patches, first),) = model.forward_intermediates(
        pixels, indices=[len(model.blocks) - 2], output_fmt="NLC", return_prefix_tokens=True,
        intermediates_only=True,
    )  # fmt: skip
    last, tokens = model.blocks[-1], torch.cat([first, patches], dim=1)
    joined = last.attn.qkv(last.norm1(tokens)).unflatten(2, (3, heads, -1))
    q, k, _ = joined.permute(2, 0, 3, 1, 4)
    q, k = last.attn.q_norm(q), last.attn.k_norm(k)
    attention = (last.attn.scale * q[0, :, :1] @ k[0, :, prefix:].transpose(1, 2)).softmax(2)
    features = vision.encode(image).flatten(0, 1)
    means: Tensor = attention[:, 0].cpu().float() @ features
    return means


def similarities(
    images: Float[Tensor, "image head dim"], texts: Float[Tensor, "text dim"]
) -> Float[Tensor, "image text"]:
    """Cosine of each text and that head's mean of each image which is nearest to it.

    Args:
        images: see `means_by_head`, of any length.
        texts: of unit length.
    """
    return torch.einsum("ihd,td->ith", normalize(images, dim=2), texts).amax(2)


def contrastive_loss(
    scores: Float[Tensor, "image image"], scale: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """CLIP's symmetric loss; the caption of an image stands on the diagonal."""
    own = torch.arange(len(scores))
    loss: Tensor = (cross_entropy(scale * scores, own) + cross_entropy(scale * scores.T, own)) / 2
    return loss


@dataclass(frozen=True)
class Settings:
    """How it is trained; chosen on the validation split, since those published are for COCO.

    Attributes:
        epochs: passes over the images, each with one of its captions, drawn anew.
        batch_images: images of a step.
        learning_rate: of Adam; falls on a cosine to 0.
        captions: of each image.
        first_temperature: of the loss, learned from there; the original's.
    """

    epochs: int = 100
    batch_images: int = 128
    learning_rate: float = 1e-3
    captions: int = 5
    first_temperature: float = 0.07


def train(
    images: Float[Tensor, "image head dim"],
    texts: Float[Tensor, "text text_dim"],
    of_images: Sequence[Int64[Tensor, " caption"]],
    settings: Settings,
    seed: int,
) -> TextToVision:
    """Learn to say which caption belongs to which image.

    Args:
        images: see `means_by_head`.
        texts: CLIP's features of all different captions.
        of_images: indices of each image's captions.
        settings: of the training.
        seed: of the weights, the order and the captions drawn.
    """
    generator = torch.Generator().manual_seed(seed)
    head = TextToVision(texts.shape[1], images.shape[2], generator)
    log_scale = nn.Parameter(torch.tensor(1 / settings.first_temperature).log())
    batches = max(1, len(images) // settings.batch_images)
    optimiser = torch.optim.Adam([*head.parameters(), log_scale], lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, settings.epochs * batches)
    for _ in range(settings.epochs):
        for some in torch.randperm(len(images), generator=generator).chunk(batches):
            drawn = [
                own[int(torch.randint(len(own), (1,), generator=generator))]
                for own in (of_images[i] for i in some.tolist())
            ]
            scores = similarities(images[some], head(texts[torch.stack(drawn)]))
            loss = contrastive_loss(scores, log_scale.exp())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    return head.eval()
