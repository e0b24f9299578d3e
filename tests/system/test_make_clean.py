"""`make clean` and `make clean-all`: what they delete, and when they ask."""

import os
import pty
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY

BY_PEOPLE = ("data/drops/a.png", "data/corrections/a.png.json")
KEPT = ("runs/photos/params.yaml", "mlflow.db", "mlartifacts/1", *BY_PEOPLE)
OUTPUTS = ("data/subsample/images-0000.json", "models/train/a", "reports/report/index.html")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    shutil.copyfile(REPOSITORY / "Makefile", tmp_path / "Makefile")
    for name in (*KEPT, *OUTPUTS):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def make(checkout: Path, *arguments: str, answer: str | None = None) -> tuple[int, str]:
    """Exit code and output; with an answer, at a terminal."""
    if answer is None:
        done = subprocess.run(
            ["make", *arguments], cwd=checkout, stdin=subprocess.DEVNULL, timeout=30,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr
    ours, theirs = pty.openpty()
    os.write(ours, f"{answer}\n".encode())
    with os.fdopen(theirs), os.fdopen(ours, "wb"):
        asked = subprocess.run(
            ["make", *arguments], cwd=checkout, stdin=theirs, timeout=30, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
    return asked.returncode, asked.stdout + asked.stderr


def left(checkout: Path, names: tuple[str, ...]) -> list[str]:
    return [name for name in names if (checkout / name).exists()]


def test_make_clean_keeps_ones_own_runs_and_what_mlflow_holds(checkout: Path):
    assert make(checkout, "clean")[0] == 0
    assert left(checkout, KEPT) == list(KEPT)
    assert left(checkout, OUTPUTS) == []


def test_make_clean_all_asks_and_without_a_terminal_deletes_nothing(checkout: Path):
    code, said = make(checkout, "clean-all")
    assert code != 0
    assert "Nothing was deleted: no terminal to ask at; YES=1 does it" in said
    assert left(checkout, KEPT + OUTPUTS) == [*KEPT, *OUTPUTS]
    code, said = make(checkout, "clean-all", answer="n")
    assert code != 0
    assert "runs" in said
    assert left(checkout, KEPT + OUTPUTS) == [*KEPT, *OUTPUTS]
    assert make(checkout, "clean-all", answer="y")[0] == 0
    assert left(checkout, KEPT + OUTPUTS) == [*BY_PEOPLE]


def test_make_clean_all_with_yes_asks_nothing(checkout: Path):
    assert make(checkout, "clean-all", "YES=1")[0] == 0
    assert left(checkout, KEPT + OUTPUTS) == [*BY_PEOPLE]
