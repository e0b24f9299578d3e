"""What `make run` says at its end: where everything lies, and what to do next."""

import shlex
import sys
from pathlib import Path

from fmbseg.params import redact
from fmbseg.steps.workspace import Workspace
from fmbseg.store.names import printable


def ending(workspace: Workspace) -> str:
    """Files and formats of a finished run, and three commands that use them."""
    root = workspace.root
    left = {
        "masks": f"{_at(workspace.subsample)}/kept.json: COCO instances, RLE, those trained on; "
        f"all of them: {_at(workspace.pseudo_masks)}/*/stage11.json, stage12.json",
        "model": f"{_at(workspace.train)}/: segmenter.json, safetensors",
        "figures": f"{_at(workspace.report)}/metrics.json, iou.json; {_at(workspace.evaluate)}/",
        "report": f"{_at(workspace.report)}/index.html",
    }
    lines = [f"in {_at(root)}/:" if root != Path() else "here:"]
    lines += [f"  {name:8} {where}" for name, where in left.items()]
    lines.append("next:")
    lines += [f"  {command}   # {what}" for command, what in _commands(workspace)]
    return printable_lines(lines)


def printable_lines(lines: list[str]) -> str:
    """The lines as one text; names with control characters cannot add others."""
    return "\n".join(printable(line) for line in lines)


def _commands(workspace: Workspace) -> list[tuple[str, str]]:
    root, tracking = workspace.root, workspace.params.tracking
    images = workspace.images_root()
    if workspace.data_set == "miniature":
        images = workspace.download / "test" / "images"
    predict = [
        _program(), "predict", _at(images), "--classes", _at(workspace.classes_path()),
        "--model", _at(workspace.train), "--out", _at(root / "predictions"),
    ]  # fmt: skip
    found = [
        (shlex.join(predict), "label maps (PNG of class numbers) and overlays, of any images"),
        ("make mlflow", "losses, figures, pictures, models at http://127.0.0.1:5000"),
    ]
    if tracking.uri != "sqlite:///mlflow.db":
        found[-1] = (f"open MLflow at {redact(tracking.uri)}", "losses, figures, pictures, models")
    if workspace.data_set == "miniature":
        own = "make run IMAGES=path/to/images CLASSES=path/to/classes.txt"
        found.append((own, "your own photographs, in a folder below runs/"))
    else:
        again = f"make run WORKSPACE={shlex.quote(_at(root))}"
        what = f"after new images, or edits of {_at(root / 'params.yaml')}: only what changed"
        found.append((again, what))
    return found


def _program() -> str:
    return _at(Path(sys.executable).parent / "fmbseg")


def _at(path: Path) -> str:
    """The shortest way to write a path from the current folder."""
    absolute = path.absolute()
    here = Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(absolute)
