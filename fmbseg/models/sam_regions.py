"""SAM's answer to regions that are known coarsely: a point, a box and a mask in one prompt."""

from functools import cached_property

import torch
from jaxtyping import Float
from segment_anything.modeling import Sam
from segment_anything.modeling.common import LayerNorm2d
from torch import Tensor

from fmbseg.models.protocols import SamPrediction, Wanted
from fmbseg.models.sam_decoder import ImageSide

_PROMPTS_AT_ONCE = 8
"""With a mask in the prompt each has an image side of its own: 4 MB and a few times that."""


class RegionDecoder:
    """Prompts with points, boxes and masks through `segment_anything`'s own modules."""

    def __init__(self, model: Sam) -> None:
        """Take a model whose weights are loaded."""
        self._model = model

    @cached_property
    def knows_masks(self) -> bool:
        """Whether the prompt encoder has ever learned masks.

        A norm whose gain is 1 and whose offset is 0 everywhere is as it was made; masks would then
        be turned into random numbers and are left out of the prompts. An accelerator is waited for
        when it is first asked.
        """
        norms = [
            one for one in self._model.prompt_encoder.mask_downscaling
            if isinstance(one, LayerNorm2d)
        ]  # fmt: skip
        return any(bool((one.weight != 1).any()) or bool((one.bias != 0).any()) for one in norms)

    def decode(
        self,
        image: ImageSide,
        points: Float[Tensor, "prompt 1 2"],
        boxes: Float[Tensor, "prompt 4"],
        masks: Float[Tensor, "prompt low_height low_width"],
        wanted: Wanted,
    ) -> SamPrediction:
        """A single mask each, and its predicted IoU.

        Args:
            image: what the prompts are about.
            points: x, y in px of the encoder's input, inside the region.
            boxes: left, top, right, bottom, in the same.
            masks: logits, for the prompt encoder.
            wanted: decides by the predicted IoU; asked for some prompts at a time.
        """
        encoder = self._model.prompt_encoder
        no_mask = encoder.no_mask_embed.weight[0]
        features, position = (
            one[0].T.unflatten(1, image.grid_hw)[None]
            for one in (image.tokens - no_mask, image.position)
        )
        low_hw = [4 * side for side in image.grid_hw]
        logits, scores, chosen = [features.new_zeros((0, *low_hw))], [], []
        for start in range(0, len(points), _PROMPTS_AT_ONCE):
            some = slice(start, start + _PROMPTS_AT_ONCE)
            inside = torch.ones(len(points[some]), 1, device=points.device)
            sparse, dense = encoder(
                points=(points[some], inside), boxes=boxes[some],
                masks=masks[some, None] if self.knows_masks else None,
            )  # fmt: skip
            found, quality = self._model.mask_decoder(
                image_embeddings=features, image_pe=position, sparse_prompt_embeddings=sparse,
                dense_prompt_embeddings=dense, multimask_output=False,
            )  # fmt: skip
            predicted = quality.cpu()
            keep = wanted(predicted)
            places = keep[:, 0].nonzero()[:, 0].to(found.device, non_blocking=True)
            logits.append(found[places, 0])
            scores.append(predicted)
            chosen.append(keep)
        return SamPrediction(torch.cat(logits), torch.cat(scores), torch.cat(chosen))
