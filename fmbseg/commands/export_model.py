"""`fmbseg export-model` and `fmbseg export-words`: a trained model as ONNX; docs/onnx.md."""

import argparse
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fmbseg.align.settings import DESCRIPTION
from fmbseg.commands.answer import Answer
from fmbseg.commands.class_list import class_list
from fmbseg.errors import UserError
from fmbseg.store import human_bytes, read_json
from fmbseg.store.names import printable


def export_model(arguments: argparse.Namespace) -> Answer:
    """Write a folder with the model, its runner and its facts, and say what is in it."""
    vocabulary = class_list(arguments.classes, "--classes")
    folder = _trained(arguments.folder)
    out: Path = arguments.out
    if out.suffix == ".onnx":
        raise UserError(
            f"--out: found the file {out}; wanted a folder, into which model.onnx goes with its "
            "runner and what it is made of"
        )
    from fmbseg.model_export.write import FACTS, ModelExport
    from fmbseg.steps.export_model import run_into

    if arguments.calibrate and arguments.precision != "int8":
        raise UserError("--calibrate: wanted together with --precision int8 alone")
    plan = ModelExport(
        arguments.precision, arguments.window, arguments.open, arguments.calibrate,
        arguments.measure,
    )  # fmt: skip
    made = run_into(folder, vocabulary, plan, out)
    facts: dict[str, Any] = read_json(out / FACTS)
    print(
        printable(
            f"{out}: model.onnx, {human_bytes(facts['bytes'])}, {arguments.precision}"
            f"{'' if made else ', up to date'}"
        )
    )
    if "agreement" in facts:
        print(f"  same label as torch: {facts['agreement']:.2%} of the pixels of drawn pictures")
    for way, found in facts.get("measured", {}).items():
        print(
            f"  {way}: mIoU {found['miou']:.3f}, {found['seconds']:.3f} s an image, "
            f"{found['agrees']:.2%} of the pixels as torch ({found['images']} images)"
        )
    for what, licence in facts["licences"].items():
        print(printable(f"  licence, {what}: {licence}"))
    words = f" --words {out}/words.npz" if arguments.open else ""
    print(printable(f"  python {out}/runtime.py {out}/model.onnx photo.jpg{words}"))
    return Answer({"out": out, "model": out / "model.onnx", "made": made, **facts})


def export_words(arguments: argparse.Namespace) -> Answer:
    """Write text vectors of other words, for a model that was exported with --open."""
    vocabulary = class_list(arguments.classes, "--classes")
    folder = _trained(arguments.folder)
    from fmbseg.model_export.write import write_words

    write_words(folder, vocabulary, arguments.out)
    print(printable(f"{arguments.out}: {len(vocabulary)} classes"))
    return Answer({"out": arguments.out, "classes": list(vocabulary.names)})


def _trained(given: str) -> Path:
    if find_spec("onnx") is None or find_spec("onnxruntime") is None:
        raise UserError("found no onnx and onnxruntime here; pip install 'fmbseg[onnx]'")
    if given.startswith("models:/"):
        raise UserError(
            f"{given}: found a name of MLflow's registry; wanted a folder: mlflow artifacts "
            f"download -u {given} -d champion, then name the folder in it that holds {DESCRIPTION}"
        )
    folder = Path(given)
    if not (folder / DESCRIPTION).is_file():
        raise UserError(
            f"no trained model in {folder}; `fmbseg run` (or `make run`) trains one, or name its "
            "folder"
        )
    return folder
