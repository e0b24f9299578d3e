"""What `fmbseg predict` writes: none of these, scores, words, and never outside `--out`."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from fmbseg.cli import main
from fmbseg.commands.outputs import SUFFIXES, named_outputs, output_path
from fmbseg.errors import UserError
from fmbseg.methods.aligned import AlignedSegmentation
from fmbseg.pictures.colours import palette
from fmbseg.pictures.drawing import legend
from fmbseg.segmenter import Segmenter
from fmbseg.types import IGNORE
from tests.support.method_fakes import NAMES, ColourClip, ColourVision, identity_head, image, truth
from tests.support.trained_folder import trained_folder


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one image and a trained model whose CLIP knows colours."""
    method = AlignedSegmentation(ColourVision(), identity_head(), ColourClip())
    segmenter = Segmenter(method, NAMES, temperature=0.2)
    monkeypatch.setattr(Segmenter, "load", staticmethod(lambda folder, device, **_: segmenter))
    trained_folder(tmp_path / "model")
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(image()).save(folder / "photo.png")
    return folder


def predict(folder: Path, *options: str) -> Path:
    out = folder.parent / "out"
    assert main(
        ["predict", str(folder), "--model", str(folder.parent / "model"), "--out", str(out),
         *options]
    ) == 0  # fmt: skip
    return out


def read(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_predict_can_say_none_of_these(photo: Path, capsys: pytest.CaptureFixture[str]):
    out = predict(photo, "--classes", "red", "--background", "green=lime, blue")
    assert np.array_equal(read(out / "photo.png") == IGNORE, truth() != 0)
    assert "photo.png: red 50%, none 50%" in capsys.readouterr().out
    drawn = read(out / "photo.overlay.png")
    left = (320 - 16) // 2  # a narrow picture stands in the middle of its legend's width
    shown = drawn[:24, left : left + 16]
    assert np.array_equal(shown[truth() != 0], image()[truth() != 0]), "none is left uncoloured"
    assert not np.array_equal(shown[truth() == 0], image()[truth() == 0])
    swatches = np.concatenate([palette(1), [[255, 255, 255]]]).astype(np.uint8)
    assert np.array_equal(drawn[24:], legend(["red", "none"], swatches, [0, 1], 320))

    out = predict(photo, "--classes", "red, green", "--min-similarity", "0.5")
    wanted = Segmenter.load(photo, "cpu").predict(image(), ["red", "green"], min_similarity=0.5)
    assert np.array_equal(read(out / "photo.png"), wanted.labels)
    assert (wanted.labels[truth() == 2] == IGNORE).all()
    assert "none " in capsys.readouterr().out


def test_predict_names_the_classes_that_never_won(photo: Path, capsys: pytest.CaptureFixture[str]):
    predict(photo, "--classes", "white, red, green, blue, nothing white")
    said = capsys.readouterr().out
    assert "never won: white, nothing white (2 of 5 classes in 1 image(s))" in said
    assert "one class" not in said
    predict(photo, "--classes", "red")
    said = capsys.readouterr().out
    assert "one class and nothing to compare it with: every pixel is red" in said
    assert "never won" not in said
    predict(photo, "--classes", "red", "--background", "blue")
    assert "one class" not in capsys.readouterr().out


def test_similarity_and_confidence_are_written_on_request_with_their_scale(photo: Path):
    segmenter = Segmenter.load(photo, "cpu")
    wanted = segmenter.predict(image(), NAMES, True, scores=True)
    out = predict(photo, "--classes", "red, green, blue", "--confidence", "--similarities", "png")
    assert not (out / "photo.similarities.npz").exists()
    with Image.open(out / "photo.similarity.png") as picture:
        assert isinstance(picture, PngImageFile)
        assert picture.text["scale"] == "cosine of the best class = value / 65535 * 2 - 1"
        cosines = np.asarray(picture).astype(float) / 65535 * 2 - 1
    np.testing.assert_allclose(cosines, wanted.best_similarity, atol=2e-5)
    with Image.open(out / "photo.confidence.png") as picture:
        assert isinstance(picture, PngImageFile)
        assert picture.text["scale"] == "confidence = value / 65535"
        shares = np.asarray(picture).astype(float) / 65535
    np.testing.assert_allclose(shares, wanted.confidence, atol=1e-5)
    out = predict(photo, "--classes", "red, green, blue", "--similarities", "npz")
    with np.load(out / "photo.similarities.npz") as data:
        np.testing.assert_allclose(data["similarities"], wanted.similarities, atol=1e-3)
        assert data["classes"].tolist() == NAMES


def test_synonyms_of_the_command_line_and_of_a_file_give_the_same(photo: Path, tmp_path: Path):
    (tmp_path / "list.txt").write_text("red, crimson\ngreen\nblue\n")
    cosines = []
    for classes in ("red=crimson, green, blue", str(tmp_path / "list.txt"), "red, green, blue"):
        out = predict(photo, "--classes", classes, "--similarities", "npz")
        with np.load(out / "photo.similarities.npz") as data:
            cosines.append(data["similarities"])
        if "red," not in classes:
            assert (out / "classes.txt").read_text() == "red, crimson\ngreen\nblue\n"
    assert np.array_equal(cosines[0], cosines[1])
    assert not np.allclose(cosines[0], cosines[2], atol=0.05)


def test_similarities_too_many_for_memory_are_refused(
    photo: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("fmbseg.steps.predict.MAX_SIMILARITIES", 24 * 16)
    predict(photo, "--classes", "red", "--similarities", "npz")
    assert main(
        ["predict", str(photo), "--classes", "red, blue", "--similarities", "npz", "--model",
         str(photo.parent / "model"), "--out", str(photo.parent / "out")]
    ) == 2  # fmt: skip
    assert "use --similarities png" in capsys.readouterr().err


def test_every_image_has_its_own_outputs_and_none_is_overwritten(tmp_path: Path):
    folders = [tmp_path / name for name in ("a", "b", "c")]
    for folder in folders:
        folder.mkdir()
        (folder / "x.png").write_bytes(b"")
        (folder / "x.overlay.png").write_bytes(b"")
    (folders[0] / "x.JPG").write_bytes(b"")
    out = tmp_path / "out"
    named = named_outputs([*folders, folders[0] / "x.png"], out)
    assert len(named) == len(set(named.values())) == 7
    files = [f"{name}{suffix}".casefold() for name in named for suffix in SUFFIXES]
    assert len(files) == len(set(files))
    with pytest.raises(UserError, match=r"x\.png is one of the images and would be overwritten"):
        named_outputs([folders[0]], folders[0])
    (folders[0] / "predictions").mkdir()
    (folders[0] / "predictions" / "x.png").write_bytes(b"")
    again = named_outputs([folders[0]], folders[0] / "predictions")
    assert all("predictions" not in str(file) for file in again.values())


def test_outputs_never_leave_their_folder(tmp_path: Path):
    out, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    out.mkdir()
    elsewhere.mkdir()
    (out / "linked").symlink_to(elsewhere)
    assert output_path(out, "a/b") == out / "a" / "b"
    with pytest.raises(UserError, match="is a link that leaves"):
        output_path(out, "linked/x")
    assert list(elsewhere.iterdir()) == []


def test_names_with_html_and_other_scripts_are_shown_as_text(
    photo: Path, capsys: pytest.CaptureFixture[str]
):
    (photo / "photo.png").rename(photo / "<b>red'\".png")
    names = "<script>red</script>\nשמיים green\nblue\n"
    (photo.parent / "list.txt").write_text(names, encoding="utf-8")
    out = predict(photo, "--classes", str(photo.parent / "list.txt"), "--similarities", "npz")
    assert (out / "<b>red'\".png").is_file()
    assert (out / "classes.txt").read_text(encoding="utf-8") == names
    assert "<script>red</script> 50%" in capsys.readouterr().out
    with np.load(out / "<b>red'\".similarities.npz") as data:
        assert json.dumps(data["classes"].tolist())
    turned = photo / "x\u202egnp.png"
    Image.fromarray(image()).save(turned)
    assert main(
        ["predict", str(turned), "--classes", "red", "--model", str(photo.parent / "model"),
         "--out", str(photo.parent / "out")]
    ) == 0  # fmt: skip
    assert "x\\u202egnp.png: red 100%" in capsys.readouterr().out
