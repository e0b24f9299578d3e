"""What CLIP and SAM see of an image before anybody names anything; it is kept, so words are quick.

A name changes only which of these masks it wins: to try another one takes its text feature and a
product of matrices.
"""

import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image as PilImage
from torch import Tensor

from fmbseg.models.protocols import ClipModel, SamModel
from fmbseg.pictures.layers import resized
from fmbseg.pseudo.automatic import AutomaticOptions, masks_of_embedded
from fmbseg.pseudo.labelling import mask_features
from fmbseg.store import (
    decode_rle,
    encode_image,
    encode_rles,
    load_safetensors,
    save_safetensors,
)
from fmbseg.types import Image, Rle

PHOTO_SIDE_PX = 640
"""Long side of the photograph that is kept for the page's pictures, and of its masks."""


@dataclass(frozen=True, eq=False)
class Seen:
    """One image of a preview.

    Attributes:
        name: of the image.
        photo: the image, its long side at most `PHOTO_SIDE_PX`.
        cls: unit-length feature of every crop of the image; see `DenseClip`.
        features: unit-length feature of every mask; see `mask_features`.
        masks: SAM's masks of everything, the surest first, at the photo's size.
        areas: of each mask, as a share of the image, 0 to 1.
    """

    name: str
    photo: Image
    cls: Float[Tensor, "crop dim"]
    features: Float[Tensor, "mask dim"]
    masks: tuple[Rle, ...]
    areas: tuple[float, ...]


@torch.inference_mode()
def see(image: Image, name: str, clip: ClipModel, sam: SamModel, options: AutomaticOptions) -> Seen:
    """Look at an image as stage 1.2 does, up to where names come in.

    Args:
        image: RGB.
        name: of the image.
        clip: gives the features.
        sam: gives the masks.
        options: of the automatic masks.
    """
    dense = clip.encode_dense(image)
    masks = masks_of_embedded(sam, sam.embed(image), options)
    features = mask_features(masks, dense) if masks else torch.zeros(0, dense.cls.shape[1])
    height, width = image.shape[:2]
    scale = min(1.0, PHOTO_SIDE_PX / max(height, width))
    size_hw = max(1, round(height * scale)), max(1, round(width * scale))
    small = np.asarray(PilImage.fromarray(image).resize(size_hw[::-1], PilImage.Resampling.BOX))
    reduced = [resized(decode_rle(mask.rle), size_hw) for mask in masks]
    return Seen(
        name, small, dense.cls, features,
        tuple(encode_rles(np.stack(reduced))) if masks else (),
        tuple(mask.area_px / (height * width) for mask in masks),
    )  # fmt: skip


def save(path: Path, seen: Seen) -> None:
    """Keep it in one file, whole or not at all; its photo as JPEG."""
    photo = encode_image(PilImage.fromarray(seen.photo), "JPEG", quality=90, subsampling=0)
    masks = json.dumps({"masks": seen.masks, "areas": seen.areas}).encode()
    save_safetensors(path, {
        "cls": seen.cls, "features": seen.features,
        **{name: torch.frombuffer(bytearray(content), dtype=torch.uint8)
           for name, content in (("photo", photo), ("masks", masks))},
    })  # fmt: skip


def load(path: Path, name: str) -> Seen:
    """What `save` wrote.

    Raises:
        StoreError: no such file, or it is damaged.
    """
    found = load_safetensors(path)
    with PilImage.open(io.BytesIO(found["photo"].numpy().tobytes())) as picture:
        photo = np.asarray(picture.convert("RGB"))
    kept = json.loads(found["masks"].numpy().tobytes())
    return Seen(
        name, photo, found["cls"], found["features"], tuple(kept["masks"]), tuple(kept["areas"])
    )
