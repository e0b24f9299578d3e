"""The files that a project is made of: those of the checkout, which the wheel carries as data.

The wheel's build reads `PACKED` too (scripts/packed_build.py), so this file imports nothing of the
package.
"""

from pathlib import Path

PACKED = (
    "flows", "tasks", "params.yaml", "dvc.yaml", "prefect.yaml", "Makefile", ".gitignore",
    ".dvcignore", ".dvc/.gitignore", ".dvc/config", ".dvc/plots", "data/drops/README.md",
    "data/corrections/README.md",
)  # fmt: skip
"""Files and folders of the checkout that lie in `fmbseg/project/` of the wheel."""
_IN_WHEEL = Path(__file__).parent / "project"
PROJECT = _IN_WHEEL if _IN_WHEEL.is_dir() else Path(__file__).parents[1]
"""The folder that holds them: of the installed package, or the checkout."""
PARAMS = Path("params.yaml")
"""The file of parameters in the current folder."""


def packed_files(root: Path = PROJECT) -> list[str]:
    """Every file that `PACKED` names, relative to a checkout or to what the wheel holds of it."""
    found = []
    for name in PACKED:
        path = root / name
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        found += [
            file.relative_to(root).as_posix()
            for file in files
            if file.is_file() and "__pycache__" not in file.parts
        ]
    return found


def default_params() -> Path:
    """The params.yaml with the defaults: the current folder's, else the one that is installed."""
    return PARAMS if PARAMS.is_file() else PROJECT / "params.yaml"
