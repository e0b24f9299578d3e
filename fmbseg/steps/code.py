"""Which code decides what a step writes: one list for the units' keys and for dvc.yaml."""

from importlib.metadata import version
from pathlib import Path

from fmbseg.store import file_sha

_LIBRARY = Path(__file__).parents[1]
_PACKAGES = (
    "torch",
    "numpy",
    "pillow",
    "open-clip-torch",
    "segment-anything",
    "timm",
    "pycocotools",
)
_SHARED_CODE = ("types.py", "store", "steps/workspace.py", "steps/code.py")
CODE: dict[str, tuple[str, ...]] = {
    "download": (
        "steps/download.py", "miniature/world.py", "miniature/things.py", "vocabulary.py",
    ),
    "pseudo_masks": ("steps/pseudo_masks.py", "pseudo", "models", "vocabulary.py"),
    "subsample": ("steps/subsample.py", "pseudo/subsample.py"),
    "train": (
        "steps/train.py", "steps/training_set.py", "steps/truth.py", "align", "models",
        "vocabulary.py", "pseudo/patch_labels.py", "datasets/base.py", "datasets/folder.py",
        "datasets/label_files.py",
    ),
    "evaluate": (
        "steps/evaluate.py", "steps/scoring.py", "steps/image_records.py", "steps/columns.py",
        "steps/foundation.py", "evaluate/metrics.py", "evaluate/sliding.py",
        "evaluate/protocol.py", "evaluate/background.py",
        "evaluate/prepared.py", "pictures", "evaluate/examples.py", "methods", "segmenter.py",
        "align/head.py", "pseudo", "models", "vocabulary.py", "datasets",
    ),
    "report": (
        "steps/report.py", "steps/truth.py", "steps/figures.py", "steps/plots.py",
        "steps/departures.py", "paper.py", "evaluate", "pictures", "report",
    ),
}  # fmt: skip
"""Code that decides a step's output, below fmbseg/; dvc.yaml names the same files as deps."""


def code_shas(step: str) -> dict[str, str]:
    """Hash of every code file that a step uses; a folder stands for all files of its own."""
    found: dict[str, str] = {}
    for name in (*_SHARED_CODE, *CODE[step]):
        path = _LIBRARY / name
        files = sorted(p for p in path.rglob("*") if p.suffix in (".py", ".j2", ".json"))
        for file in files if path.is_dir() else [path]:
            found[str(file.relative_to(_LIBRARY))] = file_sha(file)
    return found


def package_versions() -> dict[str, str]:
    """Versions of the packages that decide what the models compute."""
    return {name: version(name) for name in _PACKAGES}
