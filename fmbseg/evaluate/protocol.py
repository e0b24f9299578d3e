"""Evaluation protocols by name: sizes, windows, prompts, synonyms and background, with a hash."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from fmbseg.evaluate.background import Background
from fmbseg.methods.segmentation import Prompts, Segmentation
from fmbseg.models.clip_config import TEMPLATE, imagenet_templates

_FEW = 9
"""So many templates are written out in the facts; more are counted and hashed."""


@dataclass(frozen=True)
class EvaluationProtocol:
    """Everything beside method and data set that a figure depends on.

    Attributes:
        name: what people call it.
        short_side_px: images are scaled to it, aspect kept; None leaves them as they are.
        longest_px: bound of the long side, which goes before `short_side_px`; None for no bound.
        window_px: side of the square windows a method is asked for; None asks for the whole image.
        stride_px: step between windows, at most `window_px`; the last one is moved back to the
            edge, and similarities are averaged where windows overlap.
        templates: one `{}` each; the text features of several are averaged.
        synonyms: `none` asks for a class by its first name, `mean` by the mean feature of all its
            names, `max` by each of its names, of which the best counts.
        class_names: where the names come from, for the reader.
        background: what becomes of a class "none of the others".

    Raises:
        ValueError: sizes that do not go together, or a template without its one `{}`.
    """

    name: str
    short_side_px: int | None
    longest_px: int | None
    window_px: int | None
    stride_px: int | None
    templates: tuple[str, ...]
    synonyms: Literal["none", "mean", "max"]
    class_names: str
    background: Background

    def __post_init__(self) -> None:
        sizes = (self.short_side_px, self.window_px, self.stride_px)
        if None in sizes and (set(sizes) != {None} or self.longest_px is not None):
            raise ValueError(
                f"protocol {self.name}: found short_side_px, window_px, stride_px {sizes} and "
                f"longest_px {self.longest_px}; wanted the first three, or none of the four"
            )
        if not self.templates or any(text.count("{}") != 1 for text in self.templates):
            raise ValueError(
                f"protocol {self.name}: found templates {self.templates}; wanted one or more, "
                "each with one {} for the class name"
            )

    @property
    def digest(self) -> str:
        """Ten hexadecimal digits; two figures compare only where theirs are equal."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:10]

    def facts(self) -> dict[str, Any]:
        """What is printed beside every figure, in words and numbers, ready for JSON."""
        size = "none: one pass over the whole image"
        windows = "none"
        if self.short_side_px is not None:
            bound = "" if self.longest_px is None else f", long side at most {self.longest_px} px"
            size = f"short side {self.short_side_px} px{bound}, bilinear"
            windows = f"{self.window_px} px every {self.stride_px} px, similarities averaged"
        texts: list[str] | str = list(self.templates)
        if len(self.templates) > _FEW:
            sha = hashlib.sha256("\n".join(self.templates).encode()).hexdigest()[:10]
            texts = f"mean of {len(self.templates)}, {self.templates[0]!r} first ({sha})"
        return {
            "name": self.name,
            "resize": size,
            "windows": windows,
            "scored": "at the label map's own size",
            "templates": texts,
            "synonyms": self.synonyms,
            "class_names": self.class_names,
            "background": self.background.facts(),
            "mean": "over classes with a non-empty union; ignored pixels left out",
        }

    def segmenter_for(
        self, method: Segmentation, synonyms: Mapping[str, tuple[str, ...]] | None = None
    ) -> Segmentation:
        """A method under this protocol: its templates, and its windows where there are any.

        Args:
            method: any; it must answer with similarities where the protocol has windows.
            synonyms: other names by first name; taken where the protocol averages them.
        """
        from fmbseg.evaluate.sliding import SlidingSegmentation

        averaged = dict(synonyms or {}) if self.synonyms == "mean" else {}
        prompted = method.prompted(Prompts(self.templates, averaged))
        if self.short_side_px is None or self.window_px is None or self.stride_px is None:
            return prompted
        return SlidingSegmentation(
            prompted, self.short_side_px, self.window_px, self.stride_px, self.longest_px
        )


SCLIP_BACKGROUND_NAMES = (
    "sky", "wall", "tree", "wood", "grass", "road", "sea", "river", "mountain", "sands", "desk",
    "bed", "building", "cloud", "lamp", "door", "window", "wardrobe", "ceiling", "shelf",
    "curtain", "stair", "floor", "hill", "rail", "fence",
)  # fmt: skip
"""What SCLIP's class files of VOC and COCO-Object ask for in place of "background"."""


def _sclip(name: str, short_side_px: int) -> EvaluationProtocol:
    return EvaluationProtocol(
        name=name,
        short_side_px=short_side_px,
        longest_px=2048,
        window_px=224,
        stride_px=112,
        templates=imagenet_templates(),
        synonyms="max",
        class_names="a class file with synonyms, as SCLIP's configs/cls_*.txt",
        background=Background(
            "stuff_names", SCLIP_BACKGROUND_NAMES, score="softmax", temperature=1 / 50,
            threshold=0.1,
        ),
    )  # fmt: skip


_SCLIP_SHORT_SIDES_PX = {"sclip": 336, "sclip_stuff": 448, "sclip_city": 560}
_OTHERS = {
    protocol.name: protocol
    for protocol in (
        EvaluationProtocol(
            name="whole",
            short_side_px=None,
            longest_px=None,
            window_px=None,
            stride_px=None,
            templates=(TEMPLATE,),
            synonyms="mean",
            class_names="the data set's class list",
            background=Background("ignore"),
        ),
        EvaluationProtocol(
            name="tcl",
            short_side_px=448,
            longest_px=2048,
            window_px=448,
            stride_px=224,
            templates=("a photo of a {}",),
            synonyms="none",
            class_names="mmsegmentation's",
            background=Background(
                "threshold", score="sigmoid", midpoint=0.25, temperature=0.1, threshold=0.4
            ),
        ),
    )
}
PROTOCOLS: tuple[str, ...] = (*_OTHERS, *_SCLIP_SHORT_SIDES_PX)
"""Names of the protocols; see `protocol_named`."""


def protocol_named(name: str) -> EvaluationProtocol:
    """A protocol by its name; `dataclasses.replace` makes others of it, whose hash differs.

    - `whole`: the image as it is; the miniature's own.
    - `tcl`: TCL's unified protocol without its refinement. TCL compares a constant with its masks,
      which for CLIP's cosines are a sigmoid around 0.25, ten times as steep (its `configs/eval.yml`
      and the second branch of its `generate_masks`). FMbSeg's paper asks for the stuff names of
      COCO-Stuff instead: replace `background` by `Background("stuff_names", names)`.
    - `sclip`, `sclip_stuff` (COCO-Stuff), `sclip_city` (Cityscapes): SCLIP's configurations,
      without the area threshold and the scale of 65 that it uses on VOC with background alone
      (other sets with background have 50, which is taken here).

    Raises:
        KeyError: none of `PROTOCOLS` has that name.
    """
    if name in _SCLIP_SHORT_SIDES_PX:
        return _sclip(name, _SCLIP_SHORT_SIDES_PX[name])
    return _OTHERS[name]
