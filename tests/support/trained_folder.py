"""A trained folder of the miniature's models and a head with drawn weights."""

from pathlib import Path

import torch

from fmbseg.align.head import AlignmentHead
from fmbseg.store import write_json
from fmbseg.vocabulary import Vocabulary

CLASSES = ("sky", "grass", "water", "road", "car", "house")
PLAIN = Vocabulary(CLASSES)
TRAINED = Vocabulary(("sky", "grass", "tree"), ((), ("lawn", "meadow"), ("pine",)))
"""With synonyms."""


def trained_folder(
    folder: Path, profile: str = "miniature", vocabulary: Vocabulary = PLAIN
) -> Path:
    """What the train step writes, without the training."""
    head = AlignmentHead(160, 128, generator=torch.Generator().manual_seed(3))
    head.save(folder)
    write_json(
        folder / "segmenter.json",
        {"models": {"profile": profile, "clip": None, "sam": None, "vision": None,
                    "projection": "naclip", "template": "a photo of a {}"},
         "input_short_side_px": "auto", "trained_classes": list(vocabulary.names),
         "synonyms": [list(one) for one in vocabulary.synonyms], "temperature": 0.2},
    )  # fmt: skip
    return folder
