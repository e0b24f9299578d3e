"""Every on-disk format and the unit manifest; import from here, not from the files inside."""

from fmbseg.store.archives import ArchiveError, extract_archive
from fmbseg.store.coco import (
    CocoMasks,
    decode_rle,
    encode_rles,
    foreground_runs,
    read_coco,
    write_coco,
)
from fmbseg.store.files import (
    MANIFEST,
    StoreError,
    load_safetensors,
    read_json,
    save_safetensors,
    sha_of,
    write_bytes,
    write_json,
)
from fmbseg.store.flush import flush_tree
from fmbseg.store.formats import UnreadableImageError
from fmbseg.store.hashes import file_sha
from fmbseg.store.images import MAX_PIXELS, decode_image, encode_image, image_sha, read_image
from fmbseg.store.listing import IMAGE_SUFFIXES, Refused, list_images, scan_images
from fmbseg.store.manifest import UnitKey, run_unit, unit_edit, unit_is_valid, unit_problem
from fmbseg.store.space import (
    DiskFullError,
    explain_full_disk,
    free_bytes,
    human_bytes,
    require_space,
)
