"""DVC for a workspace of its own, such as runs/<folder>: its dvc.yaml, in a Git repository there.

The checkout ignores runs/, and DVC neither looks into ignored folders nor does without Git what it
does best (diffs, experiments). So a workspace becomes a repository beside the checkout's: it holds
params.yaml, dvc.yaml and dvc.lock, while outputs stay out of Git as they do in the checkout.

Its commands run in the checkout, named by its whole path, and for the folder that DVC started them
in: that is the workspace, or a copy of it below .dvc/tmp in which DVC runs an experiment.
"""

import io
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

from fmbseg.params_edit import round_trip_yaml
from fmbseg.store import write_bytes

_CHECKOUT = Path(__file__).resolve().parents[1]
_HEADER = "# Made by `make run` from the checkout's dvc.yaml, and kept up to date (docs/dvc.md).\n"
_FILES = {
    ".gitignore": "/data/*\n!/data/drops/\n/data/drops/*\n!/data/drops/README.md\n"
    "!/data/corrections/\n/data/corrections/*\n!/data/corrections/README.md\n"
    "/models/\n/reports/\n/exports/\n/.scratch/\n/dvc_plots/\n/mlflow.db\n/mlartifacts/\n",
    ".dvc/.gitignore": "/config.local\n/tmp\n/cache\n",
    ".dvc/config": f"{_HEADER}[core]\n    analytics = false\n    check_update = false\n",
}
_COPIED = (
    ".dvcignore", ".dvc/plots/shares.json", "data/drops/README.md", "data/corrections/README.md",
)  # fmt: skip
"""The READMEs make folders that Git keeps: DVC wants all that a stage reads, in copies too."""
_GIT = ("-c", "user.name=FMbSeg", "-c", "user.email=fmbseg@localhost", "-c", "commit.gpgsign=false")


def prepare(root: Path) -> str | None:
    """Give a workspace the files and the repository that DVC wants, where it has none.

    A dvc.yaml or .dvc/ that the user made is left alone, and so is a Git repository around the
    workspace that does not ignore it. A call that was killed is completed by the next.

    Returns:
        Why the workspace cannot have DVC; None where it has, whoever set it up.
    """
    mine, pipeline = root / "dvc.yaml", _CHECKOUT / "dvc.yaml"
    if mine.is_file() and not mine.read_text(errors="replace").startswith(_HEADER):
        return None
    if not mine.is_file() and (root / ".dvc").is_dir() and not _begun(root):
        return "its .dvc/ has no dvc.yaml"
    if not pipeline.is_file():
        return "the checkout's dvc.yaml is not there"
    if (problem := _repository(root)) is not None:
        return problem
    for name, content in _FILES.items():
        _write(root / name, content)
    for name in _COPIED:
        if (_CHECKOUT / name).is_file():
            _write(root / name, (_CHECKOUT / name).read_text())
    _write(mine, _HEADER + _pipeline(pipeline))
    if _git(root, "rev-parse", "--verify", "HEAD").returncode != 0:
        tracked = [name for name in (*_FILES, *_COPIED, "dvc.yaml", "params.yaml")
                   if (root / name).is_file()]  # fmt: skip
        _git(root, "add", "--force", "--", *tracked)
        _git(root, *_GIT, "commit", "--quiet", "--no-verify", "--message=The workspace")
    return None


def _begun(root: Path) -> bool:
    """Whether the .dvc/ there is what a killed call leaves."""
    config = root / ".dvc" / "config"
    return not config.is_file() or config.read_text(errors="replace").startswith(_HEADER)


def _repository(root: Path) -> str | None:
    """Make the workspace a Git repository; why not, where that cannot be."""
    if shutil.which("git") is None:
        return "git is not installed"
    top = _git(root, "rev-parse", "--show-toplevel")
    if top.returncode == 0:
        if Path(top.stdout.strip()).resolve() == root.resolve():
            return None
        if _git(root, "check-ignore", "--quiet", ".").returncode != 0:
            return f"it lies in the Git repository {top.stdout.strip()}, which does not ignore it"
    made = _git(root, "init", "--quiet", "--initial-branch=main", ".")
    return None if made.returncode == 0 else f"git init: {' '.join(made.stderr.split())}"


def _pipeline(pipeline: Path) -> str:
    """The checkout's dvc.yaml for a workspace: commands run in the checkout, code lies there."""
    yaml = round_trip_yaml()
    tree: dict[str, Any] = yaml.load(pipeline)
    there = str(_CHECKOUT).replace("${", "\\${")  # DVC's own words for a parameter
    for name, entry in tree["stages"].items():
        stage = entry.get("do", entry)  # a stage for each entry of a list
        workspace = '"$OLDPWD"' if name == "track" else '--workspace "$OLDPWD"'
        stage["cmd"] = f"cd {shlex.quote(there)} && {stage['cmd']} {workspace}"
        for place, dep in enumerate(stage["deps"]):
            if dep in ("fmbseg", "requirements.txt"):  # the library, or its version
                stage["deps"][place] = f"{there}/{dep}"
    text = io.StringIO()
    yaml.dump(tree, text)
    _, _, body = text.getvalue().partition("stages:")
    return f"stages:{body}"


def _write(path: Path, content: str) -> None:
    """Write a file unless it holds that already."""
    data = content.encode()
    if not path.is_file() or path.read_bytes() != data:
        write_bytes(path, data)


def _git(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    outside = {k: v for k, v in os.environ.items() if k not in ("GIT_DIR", "GIT_WORK_TREE")}
    return subprocess.run(
        ["git", *arguments], cwd=root, env=outside, capture_output=True, text=True, check=False
    )
