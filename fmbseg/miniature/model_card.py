"""What the miniature's model card says, for pages that show its models' results."""

from pathlib import Path

DATA_FILES = ("MODEL_CARD.md",)
_CARD = Path(__file__).with_name("MODEL_CARD.md")


def limits() -> tuple[str, ...]:
    """The paragraphs on what the miniature models are not, as plain text."""
    text = _CARD.read_text().split("## What they are not", 1)[1].split("\n## ", 1)[0]
    return tuple(" ".join(part.replace("`", "").split()) for part in text.strip().split("\n\n"))
