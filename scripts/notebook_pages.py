"""Executed notebooks as pages of the web site: text, code, and what the cells showed."""

import base64
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_UP = re.compile(r"\]\(\.\./")
_NOTEBOOK = re.compile(r"\]\((\w+)\.ipynb\)")


def page_of(notebook: Path) -> str:
    """A notebook as Markdown, with its pictures inside; it is read, never run.

    Args:
        notebook: below docs/notebooks/; links in it are as seen from there.
    """
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    head, *rest = [part for cell in cells for part in _cell(cell)]
    note = f"This page is a notebook: [{notebook.name}](notebooks/{notebook.name}) to run it."
    return "\n\n".join([head, note, *rest]) + "\n"


def _cell(cell: dict[str, Any]) -> Iterator[str]:
    source = _text(cell["source"])
    if cell["cell_type"] == "markdown":
        yield _NOTEBOOK.sub(r"](\1.md)", _UP.sub("](", source))
        return
    yield f"```python\n{source}\n```"
    for output in cell["outputs"]:
        yield _shown(output, cell["metadata"].get("alt", ""))


def _shown(output: dict[str, Any], alt: str) -> str:
    """What a cell showed: HTML where there is some, else a picture, else text."""
    data = output.get("data", {})
    if "text/html" in data:
        return _text(data["text/html"])
    if "image/png" in data:
        picture = "".join(_text(data["image/png"]).split())
        base64.b64decode(picture, validate=True)
        return f'<p><img alt="{html.escape(alt)}" src="data:image/png;base64,{picture}"></p>'
    return f"```text\n{_text(output.get('text') or data.get('text/plain', '')).rstrip()}\n```"


def _text(value: str | list[str]) -> str:
    return value if isinstance(value, str) else "".join(value)
