"""`fmbseg export-model`: where it writes, what it reads, and the file that people copy."""

import shutil
from argparse import Namespace
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fmbseg import runtime
from fmbseg.commands.export_model import export_model
from fmbseg.commands.model_source import ModelSource
from fmbseg.errors import UserError
from fmbseg.model_export.measure import drawn
from fmbseg.model_export.write import ModelExport
from fmbseg.steps.export_model import run_into
from fmbseg.store import read_image
from tests.unit.model_export.conftest import WORDS

pytestmark = pytest.mark.weights


def test_an_export_that_is_there_is_not_made_again_and_an_edited_one_is_kept(exported, trained):
    plan = ModelExport(words_are_open=True)
    assert not run_into(trained, WORDS, plan, exported)
    note = exported / "note.txt"
    note.write_text("mine")
    with pytest.raises(ValueError, match=r"note\.txt was added"):
        run_into(trained, WORDS, plan, exported)
    note.unlink()


def given(folder: Path | str, out: Path, **options: object) -> Namespace:
    """The command line's words."""
    plain = {
        "precision": "float32",
        "window": None,
        "open": True,
        "calibrate": None,
        "standard": False,
    }
    words = ",".join("=".join(names) for names in WORDS.groups)
    return Namespace(folder=folder, classes=words, out=out, measure=None, **(plain | options))


def test_a_file_that_is_asked_for_is_the_folders_model(exported, trained, tmp_path, capsys):
    """The export of the fixture stands in for one of its own, so that nothing is traced."""
    file, folder = tmp_path / "street.onnx", tmp_path / "street"
    shutil.copytree(exported, folder)
    file.write_bytes(b"mine")
    with pytest.raises(UserError, match=r"street\.onnx, which is not the model in .*street; move"):
        export_model(given(trained, file))
    file.unlink()
    for _ in range(2):  # the second finds its own file there
        assert export_model(given(trained, file)).facts["model"] == file
        assert file.read_bytes() == (folder / "model.onnx").read_bytes()
    assert f"python {folder}/runtime.py {file} photo.jpg" in capsys.readouterr().out
    assert not list(tmp_path.glob(".*"))


def test_a_name_of_the_registry_is_exported_and_its_version_noted(
    trained, exported, tmp_path, monkeypatch
):
    """The registry is a stand-in: tests/unit/commands/test_model_source.py asks a real one."""
    seen = {}

    @contextmanager
    def fetched(name):
        yield ModelSource(trained, "fmbseg-street/3")

    def run_into(folder, classes, plan, out):
        seen[folder] = plan
        shutil.copytree(exported, out)
        return True

    monkeypatch.setattr("fmbseg.commands.export_model.model_source", fetched)
    monkeypatch.setattr("fmbseg.steps.export_model.run_into", run_into)
    assert export_model(given("models:/fmbseg-street@champion", tmp_path / "out"))
    assert seen == {trained: ModelExport(words_are_open=True, registered="fmbseg-street/3")}


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "L", "I;16", "1", "CMYK"])
def test_the_runner_reads_pictures_as_this_package_does(mode, tmp_path):
    pixels, path = drawn((20, 30), 3), tmp_path / f"a.{'tif' if mode == 'CMYK' else 'png'}"
    alpha = Image.fromarray(drawn((20, 30), 4)).convert("L")
    if mode == "I;16":
        Image.fromarray(pixels[:, :, 0].astype(np.uint16) * 251).save(path)
    elif mode == "P":
        Image.fromarray(pixels).quantize(16).save(path, transparency=3)
    elif mode in ("RGBA", "LA"):
        picture = Image.fromarray(pixels).convert(mode)
        picture.putalpha(alpha)
        picture.save(path)
    else:
        Image.fromarray(pixels).convert(mode).save(path)
    wanted, found = read_image(path), runtime.read_rgb(path)
    assert found.dtype == np.uint8
    assert (found == wanted).all()


def test_the_page_holds_the_very_runner():
    page = (Path(__file__).parents[3] / "docs" / "onnx.md").read_text()
    assert Path(runtime.__file__).read_text() in page
