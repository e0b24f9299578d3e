from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fmbseg.cli import main
from fmbseg.miniature.world import generate


@pytest.mark.weights
def test_doctor_finds_the_shipped_weights(capsys: pytest.CaptureFixture[str]):
    params = Path(__file__).parents[3] / "params.yaml"
    assert main(["doctor", "--params", str(params)]) == 0
    out = capsys.readouterr().out
    assert out.count("present") == 3
    assert "offline" in out
    assert "torch" in out


def test_doctor_reports_missing_weights_and_where_they_go(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    text = (Path(__file__).parents[3] / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text.replace("profile: miniature", "profile: paper"))
    assert main(["doctor", "--params", str(tmp_path / "params.yaml")]) == 1
    out = capsys.readouterr().out
    assert "MISSING" in out
    assert "sam_vit_h_4b8939.pth" in out
    assert "fetch them once: fmbseg download --weights paper" in out


@pytest.mark.weights
def test_predict_writes_a_label_map_an_overlay_and_the_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    from fmbseg.align.head import AlignmentHead
    from fmbseg.models.build import build_clip, build_vision
    from fmbseg.params import load_params
    from fmbseg.store import write_json

    model = tmp_path / "model"
    model.mkdir()
    AlignmentHead(build_vision("miniature").dim, build_clip("miniature").dim, 4).save(model)
    section = load_params(Path(__file__).parents[3] / "params.yaml").models.model_dump()
    write_json(model / "segmenter.json", {"models": section, "input_short_side_px": "auto"})
    image = next(iter(generate(3, 1, "test"))).image[:100]
    Image.fromarray(image).save(tmp_path / "ä b.png")
    (tmp_path / "broken.png").write_text("no picture")
    out = tmp_path / "out"
    code = main(
        ["predict", str(tmp_path / "ä b.png"), str(tmp_path / "broken.png"),
         "--classes", "sky, grass", "--model", str(model), "--out", str(out), "--device", "cpu"]
    )  # fmt: skip
    assert code == 3, "one of two images cannot be read"
    assert "skipped" in capsys.readouterr().err
    with Image.open(out / "ä b.png") as picture:
        assert picture.size == (128, 100)
        assert set(np.unique(np.asarray(picture))) <= {0, 1}
    assert (out / "ä b.overlay.png").is_file()
    assert (out / "classes.txt").read_text() == "sky\ngrass\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["predict", "nothing.png", "--classes", "sky"], "no such file"),
        (["predict", __file__, "--classes", "sky,sky"], "given twice"),
        (["predict", __file__, "--classes", "sky", "--model", "nowhere"], "no trained model"),
        (["doctor", "--params", "nothing.yaml"], "no such file"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_2(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
):
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1
