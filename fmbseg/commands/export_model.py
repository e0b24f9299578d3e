"""`fmbseg export-model` and `fmbseg export-words`: a trained model as ONNX; docs/onnx.md."""

import argparse
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from fmbseg.align.settings import DESCRIPTION
from fmbseg.commands.answer import Answer
from fmbseg.commands.class_list import class_list
from fmbseg.commands.model_source import ModelSource, model_source
from fmbseg.errors import UserError
from fmbseg.hub.fetch import fetched
from fmbseg.hub.files import is_published
from fmbseg.hub.names import PREFIX, HubName, is_hub_name
from fmbseg.store import file_sha, human_bytes, read_json
from fmbseg.store.names import printable

_MODEL = "model.onnx"


def export_model(arguments: argparse.Namespace) -> Answer:
    """Write a folder with the model, its runner and its facts, and say what is in it.

    Where `--out` names a file, the folder has its name without the ending, and the file is the
    folder's model.onnx once more.
    """
    vocabulary = class_list(arguments.classes, "--classes")
    _require_onnx()
    if arguments.calibrate and arguments.precision != "int8":
        raise UserError("--calibrate: wanted together with --precision int8 alone")
    out: Path = arguments.out
    file = out if out.suffix == ".onnx" and not out.is_dir() else None
    if file:
        out = out.with_suffix("")
        _require_ours(file, out)
    with _trained(arguments.folder) as source:
        from fmbseg.model_export.write import FACTS, ModelExport
        from fmbseg.steps.export_model import note_export, run_into

        plan = ModelExport(
            arguments.precision, arguments.window, arguments.open, arguments.calibrate,
            arguments.measure, source.registered, arguments.standard,
        )  # fmt: skip
        made = run_into(source.folder, vocabulary, plan, out)
        note_export(source.folder, out)
    if file:
        _put(out / _MODEL, file)
    facts: dict[str, Any] = read_json(out / FACTS)
    _say(arguments, out, file or out / _MODEL, facts, made)
    return Answer({"out": out, "model": file or out / _MODEL, "made": made, **facts})


def export_words(arguments: argparse.Namespace) -> Answer:
    """Write text vectors of other words, for a model that was exported with --open."""
    vocabulary = class_list(arguments.classes, "--classes")
    _require_onnx()
    with _trained(arguments.folder) as source:
        from fmbseg.model_export.write import write_words

        write_words(source.folder, vocabulary, arguments.out)
    print(printable(f"{arguments.out}: {len(vocabulary)} classes"))
    return Answer({"out": arguments.out, "classes": list(vocabulary.names)})


def _say(
    arguments: argparse.Namespace, out: Path, file: Path, facts: dict[str, Any], made: bool
) -> None:
    size, state = human_bytes(facts["bytes"]), "" if made else ", up to date"
    print(printable(f"{file}: {size}, {arguments.precision}{state}"))
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
    print(printable(f"  python {out}/runtime.py {file} photo.jpg{words}"))


def _require_ours(file: Path, out: Path) -> None:
    """A file that is there already is the export's own, which a new one may replace."""
    if not os.path.lexists(file):
        return
    own = out / _MODEL
    if not (file.is_file() and own.is_file() and file_sha(file) == file_sha(own)):
        raise UserError(
            f"--out: found {file}, which is not the model in {out}; move it away, or name another"
        )


def _put(model: Path, file: Path) -> None:
    """The same bytes under another name: one file on the disk where its file system allows that."""
    if file.exists() and file.samefile(model):
        return
    fresh = file.with_name(f".{file.name}.new")
    fresh.unlink(missing_ok=True)
    try:
        os.link(model, fresh)
    except OSError:
        shutil.copyfile(model, fresh)
    os.replace(fresh, file)


def _require_onnx() -> None:
    if find_spec("onnx") is None or find_spec("onnxruntime") is None:
        raise UserError("found no onnx and onnxruntime here; pip install 'fmbseg[onnx]'")


@contextmanager
def _trained(given: str) -> Iterator[ModelSource]:
    """The trained folder that is meant: a published model is one after its files are renamed."""
    with model_source(given) as source:
        if is_hub_name(given):
            name = HubName.parse(given)
            folder = fetched(name)
            source = ModelSource(folder, f"{PREFIX}{name.repo}@{folder.name}")  # of one commit
        if (source.folder / DESCRIPTION).is_file():
            yield source
            return
        if not is_published(source.folder):
            raise UserError(
                f"no trained model in {source.folder}; `fmbseg run` (or `make run`) trains one, or "
                "name its folder"
            )
        from fmbseg.hub.layout import unpack_published

        with tempfile.TemporaryDirectory(prefix="fmbseg-published-") as place:
            unpack_published(source.folder, Path(place))
            yield source._replace(folder=Path(place))
