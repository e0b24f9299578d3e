"""Unit `export_model`: a trained folder as one ONNX file with its runner; docs/onnx.md."""

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from fmbseg.align.settings import CONFIG, DESCRIPTION, WEIGHTS
from fmbseg.export.labelled import ExportError
from fmbseg.steps.code import code_of
from fmbseg.store import UnitKey, file_sha, run_unit, sha_of, unit_edit
from fmbseg.vocabulary import Vocabulary

if TYPE_CHECKING:  # what is up to date does not wait for torch
    from fmbseg.model_export.write import ModelExport

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
