"""Other people's tools, each in a virtual environment of its own, which read and write labels.

A tool whose packages cannot be installed here is skipped. `FMBSEG_JUDGES` names a folder that
keeps the environments for the next time.
"""

import os
import subprocess
import sysconfig
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

Judge = Callable[..., Path]
HOSTED = ("ultralytics", "lightly-train")
"""They need torch: the one of these tests."""


def judges(otherwise: Path) -> Judge:
    """Makes the environment of a package, and gives its folder of programs.

    Args:
        otherwise: the folder of environments where `FMBSEG_JUDGES` names none.
    """

    def make(package: str) -> Path:
        folder = Path(os.environ.get("FMBSEG_JUDGES") or otherwise) / package
        programs = folder / "bin"
        if (folder / "ready").is_file():
            return programs
        venv.create(folder, with_pip=True)
        if package in HOSTED:
            (site,) = folder.glob("lib/python*/site-packages")
            (site / "host.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
        command = [programs / "python", "-m", "pip", "install", "-q", "--no-compile", package]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"{package} cannot be installed here: {done.stderr[-300:]}")
        (folder / "ready").touch()
        return programs

    return make


def run(programs: Path, code: str, tmp_path: Path, *arguments: str) -> str:
    """What a script prints in a judge's environment; its settings lie below `tmp_path`."""
    script = tmp_path / "judge.py"
    script.write_text(HEAD + code)
    environment = {
        **os.environ, "HOME": str(tmp_path), "YOLO_CONFIG_DIR": str(tmp_path),
        "YOLO_OFFLINE": "true", "FIFTYONE_DO_NOT_TRACK": "true", "PYTHONPATH": "",
        "QT_QPA_PLATFORM": "offscreen",
    }  # fmt: skip
    done = subprocess.run(
        [programs / "python", script, *arguments],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


HEAD = """
import json, sys
from pathlib import Path
import numpy as np

def save(maps, path):
    np.savez(path, **{json.dumps(name): labels for name, labels in maps.items()})
"""
"""`save` keeps a judge's answer: arrays by name."""
