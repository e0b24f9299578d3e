"""Stage 1.1, step 3: the patches most similar to a class become SAM's prompts."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from fmbseg.models.protocols import DenseClip, SamEmbedding, SamModel
from fmbseg.pseudo.rasterise import encode, measure, rows_of
from fmbseg.types import PseudoMask


def top_patches(
    patches: Float[Tensor, "rows cols dim"], text: Float[Tensor, " dim"], count: int
) -> list[int]:
    """Row-major indices of the `count` patches most similar to a text, best first.

    All patches when there are fewer; the earlier patch wins a tie.
    """
    similarity = (patches.flatten(0, 1).float() @ text.float()).cpu()
    best = similarity.sort(descending=True, stable=True).indices[:count]
    return [int(index) for index in best]


def top_points(
    patches: Float[Tensor, "rows cols dim"],
    text: Float[Tensor, " dim"],
    count: int,
    image_hw: tuple[int, int],
) -> Float[np.ndarray, "point 2"]:
    """Centres of the `count` patches most similar to a text.

    Args:
        patches: dense map of the whole image.
        text: text feature of one class.
        count: how many; all patches when there are fewer.
        image_hw: size of the image, px.

    Returns:
        x, y in px of the image, best first; the earlier patch wins a tie.

    Paper: section 3.1 (5 points).
    """
    rows, cols = patches.shape[:2]
    indices = np.array(top_patches(patches, text, count))
    x = (indices % cols + 0.5) * (image_hw[1] / cols)
    y = (indices // cols + 0.5) * (image_hw[0] / rows)
    return np.stack([x, y], axis=1)


def prompted_masks(
    sam: SamModel,
    embedding: SamEmbedding,
    dense: DenseClip,
    texts: Float[Tensor, "category dim"],
    present: Sequence[int],
    *,
    class_names: Sequence[str],
    image_name: str,
    count: int,
    stability_offset: float,
    together: bool = True,
) -> list[PseudoMask]:
    """Ask SAM for one mask of every present class.

    A class's points are one joint prompt; of the masks SAM answers, the one with the highest
    predicted quality is kept. No other filter applies; an empty mask is left out.

    Args:
        sam: the model.
        embedding: SAM's encoding of the image.
        dense: CLIP's encoding of the image.
        texts: unit-length text features of all classes.
        present: class indices to ask for.
        class_names: of all classes.
        image_name: goes into the masks.
        count: points a class.
        stability_offset: in logits; stability is recorded only.
        together: else each point is a prompt of its own, and the best of all their masks is kept.

    Returns:
        At most one mask a present class, in the order of `present`. Its CLIP similarity is the
        cosine of the prompt patches' mean feature and the text.

    Paper: section 3.1.
    """
    found: list[PseudoMask] = []
    flat = dense.patches.flatten(0, 1).float()
    if not present:
        return found
    points = np.stack([top_points(dense.patches, texts[c], count, embedding.image_hw)
                       for c in present])  # fmt: skip
    prediction = sam.predict_points(
        embedding, points if together else points.reshape(-1, 1, 2), _best_of_each
    )
    quality = prediction.scores.unflatten(0, (len(present), -1))  # the best of each prompt
    best = quality.argmax(dim=1, keepdim=True)
    rows = best[:, 0] + torch.arange(len(present)) * quality.shape[1]
    logits = rows_of(prediction.logits, rows)
    measures = measure(sam, embedding, logits, stability_offset)
    filled = measures.area_px.nonzero()[:, 0]
    masks = encode(
        sam, embedding, rows_of(logits, filled), prediction.scores[rows[filled]],
        [tuple((float(x), float(y)) for x, y in points[row]) for row in filled],
        measures.of(filled),
    )  # fmt: skip
    for row, mask in zip(filled.tolist(), masks, strict=True):
        class_index = present[row]
        text = texts[class_index].float()
        prompt_mean = flat[top_patches(dense.patches, text, count)].mean(dim=0)
        similarity = torch.nn.functional.cosine_similarity(prompt_mean, text, dim=0)
        found.append(
            PseudoMask(
                image=image_name,
                class_index=class_index,
                class_name=class_names[class_index],
                stage="1.1",
                clip_similarity=round(float(similarity), 6),
                mask=mask,
            )
        )
    return found


def _best_of_each(
    predicted_iou: Float[Tensor, "prompt mask"],
) -> Bool[Tensor, "prompt mask"]:
    """Of each prompt the mask with the highest predicted IoU."""
    return predicted_iou.argmax(dim=1, keepdim=True) == torch.arange(predicted_iou.shape[1])
