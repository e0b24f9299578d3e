"""Names of the files of a published model."""

from pathlib import Path

from fmbseg.align.settings import DESCRIPTION

CONFIG = "config.json"
MODEL = "model.safetensors"
CARD = "README.md"
FILES = (CONFIG, MODEL, CARD)
"""All that a published model is; the first two are read."""
MAX_BYTES = {CONFIG: 4 * 2**20, MODEL: 512 * 2**20}
"""More is refused unread; the head for DINOv2's largest encoder has 90 MB."""


def is_published(folder: Path) -> bool:
    """Whether a folder is laid out like a published model."""
    return (folder / CONFIG).is_file() and (folder / MODEL).is_file()


def holds_model(folder: Path) -> bool:
    """Whether a folder can be loaded: the train step wrote it, or a published model lies in it."""
    return (folder / DESCRIPTION).is_file() or is_published(folder)
