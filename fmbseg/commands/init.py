"""`fmbseg init`: a project that its user owns, made from the checkout's own files."""

import argparse
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from fmbseg.commands.answer import Answer
from fmbseg.errors import UserError
from fmbseg.project_files import PROJECT, packed_files
from fmbseg.store import write_bytes
from fmbseg.store.names import printable

_TEMPLATES = Path(__file__).parent / "project"
_TARGETS = (
    "help", "run", "server", "serve", "benchmarks", "mlflow", "experiments", "clean", "clean-all",
)  # fmt: skip
"""Of the checkout's Makefile; the others are for work on FMbSeg itself."""


def init(arguments: argparse.Namespace) -> Answer:
    """Write flows, tasks, parameters, DVC stages and a Makefile into a folder.

    A file that is there already is never changed: the folder then has to be another one.
    """
    folder: Path = arguments.folder
    files = project_files(folder.resolve().name)
    for name, content in files.items():
        path = folder / name
        if path.is_symlink() or (path.exists() and path.read_bytes() != content):
            raise UserError(f"{path} is there already; wanted a new folder")
    for name, content in files.items():
        write_bytes(folder / name, content)
    print(f"{printable(str(folder))}: {len(files)} files; README.md says what each is for")
    git = _make_repository(folder)
    if git is not None:
        print(f"DVC will not work there yet: {git}")
    if find_spec("prefect") is None:
        print(f"its packages: pip install -r {shlex.quote(str(folder / 'requirements.txt'))}")
    print(f"next: cd {shlex.quote(str(folder))} && make run")
    return Answer({"folder": folder, "files": list(files), "dvc_problem": git})


def project_files(name: str) -> dict[str, bytes]:
    """Every file of a project: its path to its content.

    Args:
        name: of the project.
    """
    files = {one: (PROJECT / one).read_bytes() for one in packed_files()}
    return files | {
        "Makefile": _makefile(files["Makefile"].decode()).encode(),
        "dvc.yaml": _stages(files["dvc.yaml"].decode()).encode(),
        "README.md": _template("README.md", name=name, version=version("fmbseg")).encode(),
        "prefect.toml": _template("prefect.toml").encode(),
        "requirements.txt": f"fmbseg[pipeline]=={version('fmbseg')}\n".encode(),
    }


def _template(file: str, **values: str) -> str:
    text = (_TEMPLATES / file).read_text()
    for key, value in values.items():
        text = text.replace(f"{{{key}}}", value)
    return text


def _stages(shipped: str) -> str:
    """The checkout's dvc.yaml; the version of the library stands for the library's folder."""
    said = "# The dep `fmbseg` is the whole library: after any edit of it each stage"
    mine = "# The dep `requirements.txt` says which library: after any edit of it each stage"
    return shipped.replace(said, mine).replace("- fmbseg\n", "- requirements.txt\n")


def _makefile(shipped: str) -> str:
    """A Makefile with those of the checkout's targets that a project has, as they stand there."""
    blocks = [block.strip("\n") for block in shipped.split("\n\n")]
    named = {block.partition(":")[0]: block for block in blocks}
    settings = [one for one in blocks if "\nexport " in one or one.startswith("OUTPUTS ")]
    here = shlex.quote(str(Path(sys.executable).parent)).replace("$", "$$").replace("#", "\\#")
    parts = [
        _template("Makefile", bin=here).strip(),
        *settings,
        f".DEFAULT_GOAL := help\n.PHONY: {' '.join(_TARGETS)}",
        *[named[target] for target in _TARGETS],
        _template("installed.mk").strip(),
    ]
    return "\n\n".join(parts) + "\n"


def _make_repository(folder: Path) -> str | None:
    """Make the folder a Git repository unless it lies in one; why not, where that cannot be."""
    if shutil.which("git") is None:
        return "git is not installed"
    if _git(folder, "rev-parse", "--show-toplevel").returncode == 0:
        ignored = _git(folder, "check-ignore", "--quiet", ".").returncode == 0
        if not ignored:
            return None
    made = _git(folder, "init", "--quiet", "--initial-branch=main", ".")
    return None if made.returncode == 0 else f"git init: {' '.join(made.stderr.split())}"


def _git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
