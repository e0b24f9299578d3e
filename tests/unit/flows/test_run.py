"""`make run` as its user meets it: errors in one line, Ctrl-C, and what stands at the end."""

import contextlib
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from flows import pipeline, run
from flows.ending import ending
from fmbseg import cli
from fmbseg.steps import __main__ as steps
from fmbseg.steps.workspace import Workspace
from tests.conftest import REPOSITORY


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the repository's params.yaml, as the current one, and no server to start."""
    (tmp_path / "params.yaml").write_bytes((REPOSITORY / "params.yaml").read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run, "_server", contextlib.nullcontext)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield tmp_path
    for number, handler in before.items():
        signal.signal(number, handler)


FACES: dict[str, tuple[Callable[[], int], list[str]]] = {
    "make run": (run.main, []),
    "dvc repro": (steps.main, ["train"]),
    "fmbseg": (cli.main, ["doctor"]),
}


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  epochs: auto", "  epoch: 30", "train.epoch: unknown key; did you mean train.epochs?"),
        ("seed: 0", "seed: 0\nseed: 1", "the key seed stands twice in its section, in lines"),
        ("device: auto", "device: banana", "device: found 'banana'; wanted auto, cpu, cuda, "),
    ],
)
def test_a_wrong_line_of_params_yaml_is_one_line_without_a_trace(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    face: str, old: str, new: str, said: str,
):  # fmt: skip
    text = (checkout / "params.yaml").read_text()
    (checkout / "params.yaml").write_text(text.replace(old, new, 1))
    command, arguments = FACES[face]
    monkeypatch.setattr(sys, "argv", [face, *arguments])
    assert command() in (1, 2)
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1


def test_the_models_libraries_are_loaded_while_the_server_starts(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    server = SimpleNamespace(wait=lambda: done.append("waited for the server"))
    monkeypatch.setattr(run, "_server", lambda: contextlib.nullcontext(server))
    monkeypatch.setattr(run, "import_module", done.append)
    monkeypatch.setattr(pipeline, "fmbseg", lambda root: done.append("ran"))
    monkeypatch.setattr(run, "_say_end", lambda *_: 0)
    monkeypatch.setattr(sys, "argv", ["make run"])
    assert run.main() == 0
    assert done == ["fmbseg.models.build", "waited for the server", "ran"]


def test_missing_weights_are_named_before_the_flow_begins(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("flows.pipeline.fmbseg", lambda root: pytest.fail("the flow began"))
    monkeypatch.setattr(sys, "argv", ["run", "--profile", "base"])
    assert run.main() == 2
    out, error = capsys.readouterr()
    assert out.startswith("==> params.yaml rules this run (models.profile: base)")
    assert re.fullmatch(r"fmbseg: weights of .* fmbseg download --weights base .*\n", error)


def test_ctrl_c_is_one_line_and_exit_code_130(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def pressed(root: str) -> str:
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the signal came too late")

    monkeypatch.setattr("flows.pipeline.fmbseg", pressed)
    monkeypatch.setattr(sys, "argv", ["run"])
    assert run.main() == 130
    assert capsys.readouterr().err.strip() == (
        "fmbseg: stopping (Ctrl-C again: at once); nothing finished is lost; the same command "
        "goes on"
    )


@pytest.mark.weights
def test_the_end_of_a_run_names_its_files_and_four_next_commands(
    small_run: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(small_run)
    text = ending(Workspace.open(Path()))
    where, _, following = text.partition("next:\n")
    named = re.findall(r"[\w./*]+/[\w.*]+(?:\.json|\.html)|models/train/", where)
    assert {Path(name).parts[0] for name in named} == {"data", "models", "reports"}
    for name in named:
        assert list(Path().glob(name)), name
    commands = following.splitlines()
    assert len(commands) == 4
    predict = commands[0].partition("   #")[0]
    assert "--model models/train --out predictions" in predict
    assert "--classes data/download/miniature/classes.txt" in predict
    assert commands[1].partition("   #")[0].endswith("fmbseg review")
    assert "make mlflow" in commands[2]
    assert "make run IMAGES=" in commands[3]
