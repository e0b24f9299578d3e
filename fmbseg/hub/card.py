"""The model card of a published model, made of what its run wrote down."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from fmbseg.models.settings import ModelsParams
from fmbseg.store.names import markdown_text
from fmbseg.vocabulary import Vocabulary

SHOWN_CLASSES = 400
"""More class names than this are counted, not listed."""
_SUMMARY = (
    "An alignment head for open-vocabulary semantic segmentation, trained by FMbSeg: an image and "
    "any class names in, a label map out. It maps the patches of a frozen vision encoder into the "
    "text space of CLIP."
)
_LIMITS = (
    "No detector of instances: one label a pixel, of the names that were asked for.",
    "Words far from those it was trained on are answered too, with less ground to stand on.",
    "No replacement for labels where centimetres count, and nothing that people's safety, rights "
    "or health may hang on.",
)
_PSEUDO = "pseudo masks that CLIP and SAM drew; no person labelled anything"
_STUDENT = "masks that SAM drew and an earlier model named; no person labelled anything"
_LABELS = {"pseudo": _PSEUDO, "student": _STUDENT, "truth": "label files"}


@dataclass(frozen=True)
class CardFacts:
    """What a card says.

    Attributes:
        repo: owner/name.
        models: the frozen models; see `described_for_others`.
        encoders: role to name and weights, for people.
        head: sizes of the head.
        input_short_side_px: of the vision encoder.
        temperature: of the training.
        vocabulary: classes of the training; None where they are not known.
        labels: `pseudo` or `truth`; None where it is not known.
        images: that it was trained on; None where it is not known.
        corrections: how many of them people put right.
        data: where the images are from, one sentence.
        training: settings of the training.
        scores: metrics.json of every evaluation of these very weights.
        licences: what to licence.
        licence: identifier that the owner gives the head.
        limits: more that it is not.
        lineage: what to hash.
        version: of FMbSeg.
    """

    repo: str
    models: ModelsParams
    encoders: Mapping[str, str]
    head: Mapping[str, Any]
    input_short_side_px: int | str
    temperature: float | None
    vocabulary: Vocabulary | None
    labels: str | None
    images: int | None
    corrections: int
    data: str
    training: Mapping[str, Any]
    scores: Sequence[Mapping[str, Any]]
    licences: Mapping[str, str]
    lineage: Mapping[str, str | None]
    version: str
    licence: str | None = None
    limits: Sequence[str] = field(default=())


def card(facts: CardFacts) -> str:
    """The card as Markdown with the YAML head that hubs read."""
    return f"{_head(facts)}\n\n{card_text(facts, _use(facts))}"


def card_text(facts: CardFacts, use: str) -> str:
    """The card as Markdown alone, for a place that is no hub.

    Args:
        facts: what it says.
        use: Markdown of the section that says how the model is loaded.
    """
    parts = [
        f"# {markdown_text(facts.repo)}\n\n{_SUMMARY}", use, _made_of(facts), _data(facts),
        _figures(facts), _limits(facts), _licences(facts), _lineage(facts),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _head(facts: CardFacts) -> str:
    said: dict[str, Any] = {
        "library_name": "fmbseg",
        "pipeline_tag": "image-segmentation",
        "tags": ["fmbseg", "open-vocabulary", "semantic-segmentation", "pseudo-labels"],
    }
    if facts.licence:
        said = {"license": facts.licence, **said}
    if facts.scores:
        said["metrics"] = ["mean_iou"]
    return f"---\n{yaml.safe_dump(said, sort_keys=False)}---"


def _use(facts: CardFacts) -> str:
    names = list(facts.vocabulary.names[:3]) if facts.vocabulary else []
    if not names or any("`" in name for name in names):  # would end the block of code
        names = ["cat", "grass"]
    profile = facts.models.profile
    fetch = (
        "Its frozen models come with the package."
        if profile == "miniature"
        else f"The frozen models are not in this repository; `fmbseg download --weights {profile}` "
        "fetches those of the profile once."
    )
    return f"""\
## Use

```python
from fmbseg import Segmenter

segmenter = Segmenter.load("hf-hub:{facts.repo}")
answer = segmenter.predict("photo.jpg", {names!r})
answer.labels  # [height, width], index of the class
```

{fetch} `config.json` and `model.safetensors` (tensors alone, no code) are all that is read."""


def _made_of(facts: CardFacts) -> str:
    sizes = ", ".join(f"{name} {value}" for name, value in facts.head.items())
    rows = [(f"frozen {role}", f"`{name}`") for role, name in facts.encoders.items()]
    rows += [
        ("profile", f"`{facts.models.profile}`"),
        ("head", sizes),
        ("projection of CLIP's patches", f"`{facts.models.projection}`"),
        ("text", f"`{facts.models.template}`, `{{}}` stands for the name"),
        ("input", f"short side {facts.input_short_side_px} px"),
        ("temperature", f"{facts.temperature}"),
    ]
    return f"## Made of\n\n{_table(('part', 'which'), rows)}"


def _data(facts: CardFacts) -> str:
    lines = [f"## Data\n\n{facts.data}"]
    if facts.images is not None:
        corrected = f" People put {facts.corrections:,} of them right." if facts.corrections else ""
        lines.append(f"Trained on {facts.images:,} images.{corrected}")
    if facts.labels is not None:
        lines.append(f"Labels: {_LABELS.get(facts.labels, markdown_text(facts.labels))}.")
    if facts.training:
        lines.append(", ".join(f"`{name}` {value}" for name, value in facts.training.items()) + ".")
    if facts.vocabulary is not None:
        groups = facts.vocabulary.groups
        named = [_group(group) for group in groups[:SHOWN_CLASSES]]
        more = len(groups) - len(named)
        ending = f", and {more:,} more (config.json)" if more else ""
        lines.append(f"{len(groups):,} classes: {'; '.join(named)}{ending}.")
    return "\n\n".join(lines)


def _figures(facts: CardFacts) -> str:
    if not facts.scores:
        return (
            "## Figures\n\nNone: no evaluation of these weights on labelled images lies in the run "
            "that they are from."
        )
    rows = [
        (one["data_set"], one["split"], f"{one['images']:,}", f"{one['miou']:.3f}",
         f"`{one['protocol']['name']}` {one['protocol_hash']}", f"{one['seed']}")
        for one in facts.scores
    ]  # fmt: skip
    heads = ("data set", "split", "images", "mIoU", "protocol", "seed")
    parts = ["## Figures", _table(heads, rows)]
    for one in facts.scores:
        classes = [
            (markdown_text(name), "not there" if value is None else f"{value:.3f}")
            for name, value in sorted(
                one["iou"].items(), key=lambda pair: (pair[1] is None, -(pair[1] or 0), pair[0])
            )
        ]
        title = f"IoU of each class, {one['data_set']} {one['split']}".strip()
        parts += [f"{markdown_text(title)}:", _table(("class", "IoU"), classes)]
    parts.append("One training, one seed: figures of another training will differ somewhat.")
    return "\n\n".join(parts)


def _limits(facts: CardFacts) -> str:
    lines = "\n".join(f"- {line}" for line in (*facts.limits, *_LIMITS))
    return f"## What it is not\n\n{lines}"


def _licences(facts: CardFacts) -> str:
    rows = [(markdown_text(what), markdown_text(licence)) for what, licence in
            facts.licences.items()]  # fmt: skip
    ending = (
        "The encoders' licences bind whoever runs the model with them; their weights are not here."
    )
    return f"## Licences\n\n{_table(('of', 'licence'), rows)}\n\n{ending}"


def _lineage(facts: CardFacts) -> str:
    rows = [(name, f"`{value}`") for name, value in facts.lineage.items() if value]
    rows.append(("FMbSeg", facts.version))
    return f"## Lineage\n\n{_table(('what', 'SHA-256'), rows)}"


def _group(names: Sequence[str]) -> str:
    own, *others = [markdown_text(name) for name in names]
    return f"{own} ({', '.join(others)})" if others else own


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
