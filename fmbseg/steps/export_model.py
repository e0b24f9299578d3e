"""Unit `export_model`: a trained folder as one ONNX file with its runner; docs/onnx.md."""

import contextlib
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from fmbseg.align.settings import CONFIG, DESCRIPTION, WEIGHTS
from fmbseg.export.labelled import ExportError
from fmbseg.project_files import PARAMS
from fmbseg.steps.code import code_of
from fmbseg.store import UnitKey, file_sha, run_unit, sha_of, unit_edit, write_bytes
from fmbseg.vocabulary import Vocabulary

if TYPE_CHECKING:  # what is up to date does not wait for torch
    from fmbseg.model_export.write import ModelExport

_NOTES = Path(".scratch") / "model_exports"
_PACKAGES = ("onnx", "onnxruntime", "onnxscript")


def key(folder: Path, classes: Vocabulary, plan: "ModelExport") -> UnitKey:
    """Content key of a model's export: the trained files, the words, how, and by which code."""
    code = code_of("export_model")
    inputs = {name: file_sha(folder / name) for name in (WEIGHTS, CONFIG, DESCRIPTION)}
    for read in (plan.calibrated_on, plan.measured_on):
        if read:
            files = (path for path in sorted(Path(read).rglob("*")) if path.is_file())
            inputs[read] = sha_of([[str(path), file_sha(path)] for path in files])
    packages = {**code.packages, **{name: version(name) for name in _PACKAGES}}
    return UnitKey(inputs, {"classes": list(classes.lines()), **vars(plan)}, code.files, packages)


def run_into(folder: Path, classes: Vocabulary, plan: "ModelExport", out: Path) -> bool:
    """Make the export in a folder; True when there was something to do.

    Raises:
        ExportError: what lies there was edited, or is no export.
        ModelExportError: the model cannot be exported.
    """
    if out.is_dir() and any(out.iterdir()) and (edit := unit_edit(out, ".cache")) is not None:
        raise ExportError(
            f"{out}: {edit}, and a new export would replace all that lies there; move it away, or "
            "name another folder with --out"
        )

    def compute(into: Path) -> None:
        from fmbseg.model_export.write import write_model

        write_model(folder, classes, plan, into)

    return run_unit(out, key(folder, classes, plan), compute)


def note_export(source: Path, out: Path) -> None:
    """Remember an export that lies outside `exports/`, so that a tracker finds it.

    The workspace is that of the trained folder, else the current folder; without either nothing
    is noted.

    Args:
        source: the folder that was exported.
        out: the export.
    """
    places = (source.resolve().parent.parent, Path.cwd())
    root = next((one for one in places if (one / PARAMS).is_file()), None)
    if root is not None and out.resolve().parent != (root / "exports").resolve():
        place = str(out.resolve())
        with contextlib.suppress(OSError):  # a workspace of somebody else's
            write_bytes(root / _NOTES / f"{sha_of(place)[:16]}.txt", place.encode())


def exports_in(root: Path) -> list[Path]:
    """Folders that may be exports of models: those in `exports/`, then those that were noted."""
    notes = (note.read_text() for note in sorted((root / _NOTES).glob("*.txt")))
    return [*sorted((root / "exports").glob("*/")), *map(Path, notes)]
