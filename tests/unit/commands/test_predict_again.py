"""`fmbseg predict` on patterns, once more in the same folder, and after a cut."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fmbseg.cli import main
from fmbseg.commands.outputs import named_outputs
from fmbseg.errors import NEGATIVE, PARTIAL, UserError
from fmbseg.methods.aligned import AlignedSegmentation
from fmbseg.segmenter import Segmenter
from fmbseg.steps.predictions import RECORD, remove_leftovers
from fmbseg.store import read_image, write_bytes
from fmbseg.store.files import file_shas
from tests.support.method_fakes import NAMES, ColourClip, ColourVision, identity_head, image
from tests.support.trained_folder import trained_folder


class Predictor:
    """Four photographs and a trained folder; counts the images that go through the model."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.out, self._capsys, self.seen = root, root / "out", capsys, 0
        trained_folder(root / "model")
        for name in ("a.png", "b.png", "below/c.png", "below/deep/d.png"):
            (root / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.roll(image(), len(name), 0)).save(root / "photos" / name)

    def call(self, *options: object, images: object = "photos", code: int = 0) -> dict[str, Any]:
        self.seen = 0
        self._capsys.readouterr()
        words = ["predict", self.root / str(images), "--model", self.root / "model", "--out",
                 self.out, "--device", "cpu", "--json", *options]  # fmt: skip
        if "--classes" not in options:
            words += ["--classes", "red, green, blue"]
        assert main([str(word) for word in words]) == code
        out, self.words = self._capsys.readouterr()
        found: dict[str, Any] = json.loads(out)
        return found


@pytest.fixture
def predictor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Predictor:
    made = Predictor(tmp_path, capsys)
    method = AlignedSegmentation(ColourVision(), identity_head(), ColourClip())
    segmenter = Segmenter(method, NAMES, temperature=0.2)

    def counted(*given: Any, **options: Any) -> Any:
        made.seen += 1
        return Segmenter.predict(segmenter, *given, **options)

    monkeypatch.setattr(segmenter, "predict", counted)
    monkeypatch.setattr(Segmenter, "load", staticmethod(lambda folder, device, **_: segmenter))
    return made


def test_predict_says_what_it_will_do_before_it_does_it(predictor: Predictor):
    predictor.call("--background", "white", "--confidence")
    lines = predictor.words.splitlines()
    assert lines[:4] == [
        "4 images",
        f"model {predictor.root}/model: trained on 3 classes, cpu, float32",
        "3 classes: red, green, blue, background white",
        f"into {predictor.out}/: <name>.png, <name>.overlay.png, <name>.confidence.png",
    ]


def test_a_second_call_makes_nothing_anew_and_answers_the_same(predictor: Predictor):
    first = predictor.call()
    assert predictor.seen == 4
    assert [Path(one["image"]).name for one in first["images"]] == [
        "a.png", "b.png", "c.png", "d.png"
    ]  # fmt: skip
    assert sum(first["images"][0]["shares"].values()) == pytest.approx(1, abs=1e-5)
    before = file_shas(predictor.out)
    second = predictor.call()
    assert predictor.seen == 0
    assert "4 images; 4 are made already (--again makes them anew)" in predictor.words
    assert file_shas(predictor.out) == before
    assert [one["made"] for one in second["images"]] == [False] * 4
    for one in (*first["images"], *second["images"]):
        del one["made"]
    assert first["images"] == second["images"]
    assert first["never_won"] == second["never_won"]
    predictor.call("--again")
    assert predictor.seen == 4
    assert file_shas(predictor.out) == before


def test_only_what_changed_is_made_anew(predictor: Predictor):
    predictor.call()
    before = file_shas(predictor.out)
    (predictor.out / "a.overlay.png").unlink()
    (predictor.out / "b.png").write_bytes(b"somebody drew in it")
    predictor.call()
    assert predictor.seen == 2
    assert file_shas(predictor.out) == before
    Image.fromarray(image()[::-1]).save(predictor.root / "photos" / "a.png")
    Image.fromarray(image()).save(predictor.root / "photos" / "new.png")
    predictor.call()
    assert predictor.seen == 2


@pytest.mark.parametrize(
    "options",
    [("--classes", "red, green"), ("--classes", "red=crimson, green, blue"), ("--confidence",),
     ("--background", "white"), ("--min-similarity", "0.1"), ("--similarities", "png")],
)  # fmt: skip
def test_other_words_or_settings_make_all_anew(predictor: Predictor, options: tuple[str, ...]):
    predictor.call()
    predictor.call(*options)
    assert predictor.seen == 4
    assert "of an earlier call with another model, words or settings there are 4" in predictor.words


def test_another_model_makes_all_anew(predictor: Predictor):
    predictor.call()
    write_bytes(predictor.root / "model" / "alignment.safetensors", b"2")
    predictor.call()
    assert predictor.seen == 4


@pytest.mark.parametrize("text", ["", "{", "[]", '{"settings": 1, "images": {"a": 3}}'])
def test_a_damaged_record_costs_time_alone(predictor: Predictor, text: str):
    predictor.call()
    before = file_shas(predictor.out)
    (predictor.out / RECORD).write_text(text)
    predictor.call()
    assert predictor.seen == 4
    assert file_shas(predictor.out) == before


def test_a_cut_keeps_what_was_made_and_leftovers_of_killed_processes_go(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patch:
        made = 0

        def cut(path: Path) -> np.ndarray:
            nonlocal made
            made += 1
            if made == 3:
                raise KeyboardInterrupt
            return read_image(path)

        patch.setattr("fmbseg.commands.predict.read_image", cut)
        words = ["predict", predictor.root / "photos", "--classes", "red, green, blue", "--model",
                 predictor.root / "model", "--out", predictor.out, "--device", "cpu"]  # fmt: skip
        assert main([str(word) for word in words]) == 130
    (predictor.out / "below" / "deep").mkdir(parents=True, exist_ok=True)
    (predictor.out / "below" / "deep" / ".tmp-99999999-abc").write_bytes(b"half")
    predictor.call()
    assert predictor.seen == 2
    assert not list(predictor.out.rglob(".tmp-*"))


def test_files_that_a_process_is_writing_stay(tmp_path: Path):
    for name in (".tmp-1-aa", ".tmp-99999999-bb", ".tmp-x-cc", ".tmp", "tmp-99999999-dd"):
        (tmp_path / name).touch()
    remove_leftovers(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {
        ".tmp-1-aa", ".tmp-x-cc", ".tmp", "tmp-99999999-dd"
    }  # fmt: skip


def test_images_that_cannot_be_read_are_named_and_have_an_exit_code(predictor: Predictor):
    for name in ("broken.png", "b.png"):
        (predictor.root / "photos" / name).write_text("no picture")
    found = predictor.call(code=PARTIAL)
    assert len(found["images"]) == 3
    assert [Path(one["image"]).name for one in found["unreadable"]] == ["b.png", "broken.png"]
    assert found["unreadable"][0]["reason"]
    for name in ("a.png", "below/c.png", "below/deep/d.png"):
        (predictor.root / "photos" / name).unlink()
    assert predictor.call(code=NEGATIVE)["images"] == []


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("photos/*.png", ["a", "b"]),
        ("photos/[!a].png", ["b"]),
        ("photos/**/*.png", ["a", "b", "below/c", "below/deep/d"]),
        ("photos/*/c.png", ["below/c"]),
        ("photos/*", ["a", "b", "below/c", "below/deep/d"]),
        ("photos/**/deep", ["below/deep/d"]),
        ("ph*/?.png", ["photos/a", "photos/b"]),
        ("photos/below/*.*", ["c"]),
    ],
)
def test_a_pattern_stands_for_the_images_that_fit_it(
    predictor: Predictor, pattern: str, names: list[str]
):
    (predictor.root / "photos" / ".hidden.png").touch()
    (predictor.root / "photos" / "notes.txt").touch()
    (predictor.root / "photos" / "below" / "circle").symlink_to(predictor.root / "photos")
    found = named_outputs([predictor.root / pattern], predictor.root / "out")
    assert sorted(found) == names


def test_a_pattern_that_nothing_fits_is_a_mistake_and_a_name_with_brackets_is_a_name(
    predictor: Predictor,
):
    for pattern in ("photos/*.jpg", "nowhere/*.png", "photos/**/notes.*"):
        with pytest.raises(UserError, match="no image fits this pattern"):
            named_outputs([predictor.root / pattern], predictor.out)
    with pytest.raises(UserError, match="no such file or folder"):
        named_outputs([predictor.root / "photos" / "x.png"], predictor.out)
    (predictor.root / "photos" / "a.png").rename(predictor.root / "photos" / "x[1].png")
    assert list(named_outputs([predictor.root / "photos" / "x[1].png"], predictor.out)) == ["x[1]"]


def test_a_pattern_passes_over_outputs_inside_and_takes_the_current_folders_images(
    predictor: Predictor, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(predictor.root / "photos")
    write_bytes(Path("predictions/a.overlay.png"), b"")
    found = named_outputs([Path("**/*.png")], Path("predictions"))
    assert sorted(found) == ["a", "b", "below/c", "below/deep/d"]
    assert sorted(named_outputs([Path("below/*.png")], Path())) == ["c"]
