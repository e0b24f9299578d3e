"""What a user can put right, Ctrl-C and a reader that has gone: one line each, never a trace."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from fmbseg.cli import main
from fmbseg.commands.class_list import class_list
from fmbseg.errors import BROKEN_PIPE, STOPPED, is_for_user, one_line
from fmbseg.fetch import DownloadError
from fmbseg.models.weights import MissingWeightsError
from fmbseg.params import load_params
from fmbseg.steps.ready import not_ready
from fmbseg.steps.workspace import Workspace
from fmbseg.store import write_json
from tests.conftest import REPOSITORY


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line on stderr of a command that ends with 2."""
    assert main([str(argument) for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "Traceback" not in error
    assert error.isprintable() or error[:-1].isprintable()
    return error


@pytest.fixture
def picture() -> Path:
    return next((REPOSITORY / "docs").glob("report.png"))


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A trained folder of the miniature, its weights random."""
    from fmbseg.align.head import AlignmentHead
    from fmbseg.models.build import build_clip, build_vision

    folder = tmp_path / "model"
    folder.mkdir()
    AlignmentHead(build_vision("miniature").dim, build_clip("miniature").dim, 4).save(folder)
    section = load_params(REPOSITORY / "params.yaml").models.model_dump()
    write_json(folder / "segmenter.json", {"models": section, "input_short_side_px": "auto"})
    return folder


@pytest.mark.weights
@pytest.mark.parametrize("device", ["cuda", "cuda:7", "banana", "meta", "cpu and more"])
def test_a_device_that_is_not_here_is_one_line(
    device: str, capsys: pytest.CaptureFixture[str], picture: Path, trained: Path,
    monkeypatch: pytest.MonkeyPatch,
):  # fmt: skip
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    line = said(
        capsys, "predict", picture, "--classes", "sky", "--model", trained, "--device", device
    )
    assert line.startswith(f"fmbseg predict: device: found {device!r}")
    assert "auto" in line
    assert "cpu" in line


@pytest.mark.weights
@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("segmenter.json", "{", "not valid JSON"),
        ("segmenter.json", "[]", "found no keys"),
        ("segmenter.json", "{}", "found no models and no input_short_side_px"),
        ("segmenter.json", '{"models": {"profile": 3}, "input_short_side_px": 9}', "profile"),
        ("alignment.json", "{}", "damaged or do not belong together"),
        ("alignment.json", '{"vision_dim": 8, "text_dim": 8, "heads": 1, "mlp_ratio": 1.0}',
         "damaged or do not belong together"),
        ("alignment.safetensors", "no tensors", "not a safetensors file"),
    ],
)  # fmt: skip
def test_a_model_folder_that_cannot_be_read_is_one_line(
    file: str, content: str, words: str, capsys: pytest.CaptureFixture[str], picture: Path,
    trained: Path,
):  # fmt: skip
    (trained / file).write_text(content)
    line = said(capsys, "predict", picture, "--classes", "sky", "--model", trained)
    assert words in line
    assert str(trained) in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["download", "nothing_known"], "unknown data set"),
        (["estimate", "--params", "nothing.yaml"], "nothing.yaml: no such file"),
        (["estimate", "--sample", "0"], "--sample: wanted at least 1"),
        (["doctor", "--params", "."], "no such file"),
        (["miniature", "draw", "{file}/below"], "not a directory"),
        (["predict", "{image}", "--classes", "sky\u202e"], "reading direction"),
        (["predict", "{image}", "--classes", " , "], "empty"),
    ],
)
def test_a_mistake_in_any_sub_command_is_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str], tmp_path: Path,
    picture: Path,
):  # fmt: skip
    (tmp_path / "file").write_text("")
    places = {"file": tmp_path / "file", "image": picture}
    assert words in said(capsys, *(argument.format(**places) for argument in arguments))


def test_ctrl_c_ends_a_command_with_130_and_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def draw(*_: object, **__: object) -> None:
        threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        threading.Event().wait(20)

    monkeypatch.setattr("fmbseg.miniature.world.generate", draw)
    assert main(["miniature", "draw", str(tmp_path)]) == STOPPED == 130
    assert capsys.readouterr().err == "\nfmbseg miniature: stopped; what is finished stays\n"


def test_a_reader_that_has_gone_ends_a_command_without_a_word(tmp_path: Path):
    """`download --list | head -1`, with a reader that leaves before the first line comes."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "fmbseg.cli", "download", "--list", "--root", str(tmp_path)],
        stdout=writing, stderr=subprocess.PIPE, text=True, check=False, cwd=REPOSITORY,
    )  # fmt: skip
    os.close(writing)
    assert done.stderr == ""
    assert done.returncode == BROKEN_PIPE


def test_an_error_of_ours_is_one_line_and_a_fault_keeps_its_trace(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    for error in (
        DownloadError("no\nserver"), MissingWeightsError("a", "b"), ValueError("x\u202ey"),
        PermissionError(13, "Permission denied", "/x"),
    ):  # fmt: skip
        assert is_for_user(error)
        assert one_line(error).isprintable()
    assert one_line(PermissionError(13, "Permission denied", "/x")) == "/x: permission denied"
    for fault in (KeyError("x"), RuntimeError("x"), AssertionError("x")):
        assert not is_for_user(fault)

    def broken(*_: object, **__: object) -> None:
        raise KeyError("x")

    monkeypatch.setattr("fmbseg.miniature.world.generate", broken)
    with pytest.raises(KeyError):
        main(["miniature", "draw", str(tmp_path)])


@pytest.mark.parametrize(
    ("option", "text", "words"),
    [
        ("--classes", "missing.txt", "'missing.txt' looks like a file, and there is no such file"),
        ("--classes", "sky, lists/classes", "'lists/classes' looks like a file"),
        ("--classes", "C:\\lists\\classes", "looks like a file"),
        ("--classes", "Missing.TXT", "looks like a file"),
        ("--classes", "cat; dog", "found a semicolon in 'cat; dog'; commas part classes"),
        ("--classes", "cat=, dog", "an empty name in 'cat='"),
        ("--classes", "cat, Cat", "'Cat' is given twice"),
        ("--background", "missing.txt", "--background: 'missing.txt' looks like a file"),
        ("--background", "sea, Sky", "classes and background together: 'Sky' is given twice"),
        ("--min-similarity", "1.5", "--min-similarity: found 1.5; wanted a cosine, -1 to 1"),
        ("--min-similarity", "nan", "wanted a cosine"),
    ],
)
def test_words_that_look_like_a_path_and_are_none_are_an_error_with_words(
    option: str, text: str, words: str, capsys: pytest.CaptureFixture[str], picture: Path
):
    given = {"--classes": "sky, grass", option: text}
    assert words in said(capsys, "predict", picture, *(w for pair in given.items() for w in pair))


def test_names_on_the_command_line_have_synonyms_after_equals_signs(tmp_path: Path):
    found = class_list("road=street = asphalt, St. Bernard ,, u.s. flag,", "--classes")
    assert found.groups == (("road", "street", "asphalt"), ("St. Bernard",), ("u.s. flag",))
    (tmp_path / "list.txt").write_text("road, street; asphalt\na/b.txt\n")
    assert class_list(str(tmp_path / "list.txt"), "--classes").groups[0] == found.groups[0]
    many = ", ".join(f"class number {i}" for i in range(100))  # longer than a file's name may be
    assert len(class_list(many, "--classes")) == 100


def test_a_device_of_params_yaml_that_is_not_here_is_told_before_any_step(
    small_workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    text = (small_workspace / "params.yaml").read_text()
    (small_workspace / "params.yaml").write_text(text.replace("device: auto", "device: cuda"))
    problem = not_ready(Workspace.open(small_workspace))
    assert problem is not None
    assert "device: found 'cuda', but torch sees no such device" in problem
    assert "device: found 'cuda'" in said(
        capsys, "estimate", "--params", small_workspace / "params.yaml"
    )
