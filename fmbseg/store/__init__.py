"""Every on-disk format and the unit manifest; import from here, not from the files inside."""

from fmbseg.store.archives import MAX_ARCHIVE_BYTES, ArchiveError, extract_archive
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
    known_file_sha,
    load_safetensors,
    read_json,
    save_safetensors,
    sha_of,
    write_bytes,
    write_json,
)
from fmbseg.store.flush import flush_tree
from fmbseg.store.formats import UnreadableImageError
from fmbseg.store.images import MAX_BYTES, MAX_PIXELS, decode_image, image_sha, read_image
from fmbseg.store.listing import IMAGE_SUFFIXES, ImageScan, Refused, list_images, scan_images
from fmbseg.store.manifest import UnitKey, run_unit, unit_is_valid, unit_problem
from fmbseg.store.space import (
    DiskFullError,
    explain_full_disk,
    free_bytes,
    human_bytes,
    require_space,
)

__all__ = [
    "IMAGE_SUFFIXES",
    "MANIFEST",
    "MAX_ARCHIVE_BYTES",
    "MAX_BYTES",
    "MAX_PIXELS",
    "ArchiveError",
    "CocoMasks",
    "DiskFullError",
    "ImageScan",
    "Refused",
    "StoreError",
    "UnitKey",
    "UnreadableImageError",
    "decode_image",
    "decode_rle",
    "encode_rle",
    "encode_rles",
    "explain_full_disk",
    "extract_archive",
    "file_sha",
    "flush_tree",
    "folder_digest",
    "free_bytes",
    "human_bytes",
    "image_sha",
    "known_file_sha",
    "list_images",
    "load_safetensors",
    "read_coco",
    "read_image",
    "read_json",
    "require_space",
    "run_unit",
    "sam_mask_from_json",
    "sam_mask_to_json",
    "save_safetensors",
    "scan_images",
    "sha_of",
    "unit_is_valid",
    "unit_problem",
    "write_bytes",
    "write_coco",
    "write_json",
]
