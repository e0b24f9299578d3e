"""What programs rely on: one JSON document, silence, exit codes, and words that shells complete."""

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fmbseg.cli import _parser, main
from fmbseg.commands import export_model as export_model_command
from fmbseg.commands.answer import WITHOUT_JSON
from fmbseg.errors import BROKEN_PIPE, MISTAKE, NEGATIVE, PARTIAL, STOPPED
from fmbseg.store import write_json
from tests.conftest import REPOSITORY
from tests.support.trained_folder import trained_folder

PAGE = (REPOSITORY / "docs/cli.md").read_text()


def leaves(parser: argparse.ArgumentParser, name: str = "") -> dict[str, argparse.ArgumentParser]:
    """Every command of the program, those of a command's own under `command action`."""
    below = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    if not below:
        return {name: parser}
    found = dict[str, argparse.ArgumentParser]()
    for action in below:
        for word, inner in action.choices.items():
            found |= leaves(inner, f"{name} {word}".strip())
    return found


COMMANDS = leaves(_parser())


def document(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> Any:
    """The one JSON document on standard output of a command called with `--json`."""
    assert main([*map(str, arguments), "--json"]) == code
    found = json.loads(capsys.readouterr().out)
    assert (found.pop("command"), found.pop("code")) == (arguments[0], code)
    return found


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_can_be_quiet_and_every_one_with_an_end_answers_in_json(name: str):
    options = COMMANDS[name].format_help()
    assert "--quiet" in options
    assert ("--json" in options) == (name not in WITHOUT_JSON)


def test_doctor_says_in_json_what_it_says_in_words(capsys: pytest.CaptureFixture[str]):
    found = document(capsys, "doctor", "--params", REPOSITORY / "params.yaml")
    assert found["versions"]["torch"].startswith("2.")
    assert {one["model"]: one["present"] for one in found["weights"]} == dict.fromkeys(
        ("clip", "sam", "vision"), True
    )
    assert found["disk_free_bytes"] > 0


def test_a_command_whose_answer_is_no_ends_with_1_and_says_why(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    text = (REPOSITORY / "params.yaml").read_text()
    (tmp_path / "params.yaml").write_text(text.replace("profile: miniature", "profile: paper"))
    found = document(capsys, "doctor", "--params", tmp_path / "params.yaml", code=NEGATIVE)
    assert not any(one["present"] for one in found["weights"])
    assert found["weights"][0]["searched"]


def test_the_list_of_data_sets_the_estimate_and_a_project_are_json(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    found = document(capsys, "download", "--list", "voc21", "--root", tmp_path / "data")
    (voc,) = found["data_sets"]
    assert (voc["name"], voc["splits"][0]["images"]) == ("voc21", None)
    assert voc["splits"][0]["fetch_bytes"] > 1e9

    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    params = ("--params", REPOSITORY / "params.yaml", "--profile", "base", "--images", "1000")
    found = document(capsys, "estimate", *params)
    assert (found["images"], found["measured"]) == (1000, False)
    assert found["rows"][-1]["step"] == "all"
    assert found["rows"][-1]["seconds"] > 0

    drawn = document(capsys, "miniature", "draw", tmp_path / "drawn", "--count", "2")
    assert drawn["images"] == len(list((tmp_path / "drawn" / "images").glob("*.png"))) == 2
    made = document(capsys, "init", tmp_path / "project")
    assert all((tmp_path / "project" / name).is_file() for name in made["files"])


def test_an_exported_model_is_json(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def exported(folder: Path, classes: object, plan: object, out: Path) -> bool:
        write_json(out / "model.json", {"bytes": 7, "licences": {}, "agreement": 0.999})
        return True

    monkeypatch.setattr("fmbseg.steps.export_model.run_into", exported)
    monkeypatch.setattr(export_model_command, "find_spec", lambda name: name)
    model = trained_folder(tmp_path / "model")
    words = ("export-model", model, "--classes", "sky", "--out", tmp_path / "onnx")
    found = document(capsys, *words)
    assert (found["model"], found["agreement"]) == (str(tmp_path / "onnx/model.onnx"), 0.999)
    capsys.readouterr()
    assert main([str(word) for word in words]) == 0
    assert "same label as torch: 99.90%" in capsys.readouterr().out


def test_a_mistake_is_a_document_too_and_its_line_stays_on_standard_error(
    capsys: pytest.CaptureFixture[str],
):
    words = ["predict", "nothing.png", "--classes", "sky"]
    assert main([*words, "--json"]) == MISTAKE
    out, error = capsys.readouterr()
    assert json.loads(out) == {
        "command": "predict", "code": MISTAKE, "error": "nothing.png: no such file or folder"
    }  # fmt: skip
    assert error == "fmbseg predict: nothing.png: no such file or folder\n"
    assert main([*words, "--quiet"]) == MISTAKE
    assert capsys.readouterr() == ("", error)


def test_a_document_holds_no_character_that_steers_a_terminal(capsys: pytest.CaptureFixture[str]):
    assert main(["predict", "a\x1b[31m\u202e.png", "--classes", "sky", "--json"]) == MISTAKE
    out = capsys.readouterr().out
    assert out.isascii()
    assert "\x1b" not in out


def test_quiet_says_nothing_of_success_not_even_of_progress(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("fmbseg.progress.FIRST_S", 0.0)
    monkeypatch.setattr("fmbseg.progress.EVERY_S", 0.01)
    draw = ["miniature", "draw", str(tmp_path), "--count", "4"]
    assert main([*draw, "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")
    assert json.loads(json.dumps(document(capsys, *draw, "--quiet")))["images"] == 4
    assert capsys.readouterr().err == ""


def test_the_page_lists_every_command_and_every_exit_code():
    listed = re.findall(r"^\| `fmbseg ([a-z -]*[a-z])(?: [A-Z/ ]+)?`", PAGE, re.MULTILINE)
    assert set(listed) == set(COMMANDS)
    codes = [int(code) for code in re.findall(r"^\| (\d+) \|", PAGE, re.MULTILINE)]
    assert codes == [0, NEGATIVE, MISTAKE, PARTIAL, STOPPED, BROKEN_PIPE]


def shell_script(shell: str) -> str:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "fmbseg.cli", "completion", shell],
        capture_output=True, text=True, check=True, cwd=REPOSITORY,
    )  # fmt: skip
    assert not re.search(r"\|\s+torch$", done.stderr, re.MULTILINE), "seconds, at each start"
    return done.stdout


def test_bash_completes_commands_options_choices_and_files(tmp_path: Path):
    (tmp_path / "fmbseg.bash").write_text(shell_script("bash"))
    (tmp_path / "photo one.jpg").touch()

    def completed(*words: str) -> list[str]:
        quoted = " ".join(f"'{word}'" for word in words)
        script = (
            f"set -u; source fmbseg.bash; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; "
            f"COMPREPLY=(); _shtab_fmbseg fmbseg '{words[-1]}' '{words[-2]}'; "
            'printf "%s\\n" "${COMPREPLY[@]}"'
        )
        done = subprocess.run(
            ["bash", "-c", script.replace("set -u; ", "")], cwd=tmp_path, capture_output=True,
            text=True, check=True,
        )  # fmt: skip
        return done.stdout.split("\n")[:-1]

    assert "predict" in completed("fmbseg", "pre")
    assert completed("fmbseg", "predict", "--conf") == ["--confidence"]
    assert "coco" in completed("fmbseg", "label", "--format", "coc")
    assert "photo one.jpg" in completed("fmbseg", "predict", "ph")


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_the_script_of_another_shell_is_one_that_it_reads(shell: str, tmp_path: Path):
    script = shell_script(shell)
    assert "confidence" in script
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here to read it")
    (tmp_path / "script").write_text(script)
    subprocess.run([shell, "-n", "script"], cwd=tmp_path, check=True)
