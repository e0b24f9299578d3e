"""What a run says at its end: where everything lies, and what to do next."""

import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from fmbseg.steps.workspace import Workspace
from fmbseg.store.names import printable


def ending(workspace: Workspace, further: Sequence[tuple[str, str]]) -> str:
    """Files and formats of a finished run, and commands that use them.

    Args:
        workspace: of the run.
        further: a command and what it gives, each; they follow those of every workspace.
    """
    root = workspace.root
    left = {
        "masks": f"{shortest(workspace.subsample)}/<shard>.json: COCO instances, RLE, those "
        f"trained on; all of them: {shortest(workspace.pseudo_masks)}/*/stage11.json, stage12.json",
        "model": f"{shortest(workspace.train)}/: segmenter.json, safetensors",
        "figures": f"{shortest(workspace.report)}/metrics.json, details.json, iou.json; "
        f"{shortest(workspace.evaluate)}/",
        "report": f"{shortest(workspace.report)}/index.html",
    }
    lines = [f"in {shortest(root)}/:" if root != Path() else "here:"]
    lines += [f"  {name:8} {where}" for name, where in left.items()]
    lines.append("next:")
    own = (_predict(workspace), (review_command(workspace), "a page where masks are put right"))
    lines += [f"  {command}   # {what}" for command, what in (*own, *further)]
    # One by one: a name that holds control characters cannot add a line.
    return "\n".join(printable(line) for line in lines)


def _predict(workspace: Workspace) -> tuple[str, str]:
    images = workspace.images_root()
    if workspace.data_set == "miniature":
        images = workspace.download / "test" / "images"
    command = [
        program(), "predict", shortest(images), "--classes", shortest(workspace.classes_path()),
        "--model", shortest(workspace.train), "--out", shortest(workspace.root / "predictions"),
    ]  # fmt: skip
    return shlex.join(command), "label maps (PNG of class numbers) and overlays, of any images"


def review_command(workspace: Workspace) -> str:
    """How the masks of a workspace are reviewed from the current folder."""
    where = shortest(workspace.root)
    return shlex.join([program(), "review", *(["--workspace", where] if where != "." else [])])


def program() -> str:
    """How this installation's console script is called from the current folder."""
    beside = Path(sys.executable).parent / "fmbseg"
    found = shutil.which("fmbseg")
    return "fmbseg" if found and Path(found).absolute() == beside else shortest(beside)


def shortest(path: Path) -> str:
    """A path as it is shortest from the current folder."""
    absolute = path.absolute()
    here = Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(absolute)
