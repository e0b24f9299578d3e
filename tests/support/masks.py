"""Masks as tests write them."""

import numpy as np

from fmbseg.store import encode_rles
from fmbseg.types import Rle


def encode_rle(mask: np.ndarray) -> Rle:
    """Run-length encode one mask [height width]."""
    return encode_rles(mask[None])[0]
