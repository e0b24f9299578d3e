"""Every on-disk format and the unit manifest; import from here, not from the files inside."""

from fmbseg.store.coco import (
    CocoMasks,
    decode_rle,
    encode_rle,
    encode_rles,
    read_coco,
    sam_mask_from_json,
    sam_mask_to_json,
    write_coco,
)
from fmbseg.store.files import (
    MANIFEST,
    StoreError,
    file_sha,
    folder_digest,
    load_safetensors,
    read_json,
    save_safetensors,
    sha_of,
    write_bytes,
    write_json,
)
from fmbseg.store.images import (
    IMAGE_SUFFIXES,
    MAX_PIXELS,
    UnreadableImageError,
    UnsafeLinkError,
    list_images,
    read_image,
)
from fmbseg.store.manifest import UnitKey, run_unit, unit_is_valid, unit_problem

__all__ = [
    "IMAGE_SUFFIXES",
    "MANIFEST",
    "MAX_PIXELS",
    "CocoMasks",
    "StoreError",
    "UnitKey",
    "UnreadableImageError",
    "UnsafeLinkError",
    "decode_rle",
    "encode_rle",
    "encode_rles",
    "file_sha",
    "folder_digest",
    "list_images",
    "load_safetensors",
    "read_coco",
    "read_image",
    "read_json",
    "run_unit",
    "sam_mask_from_json",
    "sam_mask_to_json",
    "save_safetensors",
    "sha_of",
    "unit_is_valid",
    "unit_problem",
    "write_bytes",
    "write_coco",
    "write_json",
]
