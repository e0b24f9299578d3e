"""Locks between processes: held, waited for, freed by a kill; and no module that only POSIX has."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from fmbseg.store import UnitKey, run_unit
from tests.conftest import REPOSITORY

POSIX_ONLY = ("fcntl", "grp", "pwd", "resource", "termios")
HOLDER = """
    import sys, time
    from pathlib import Path
    from fmbseg.store import UnitKey, run_unit

    def compute(folder):
        Path(sys.argv[2]).touch()
        time.sleep(float(sys.argv[3]))
        (folder / "a.txt").write_text("of the first process")

    run_unit(sys.argv[1], UnitKey(), compute)
"""


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        cwd=REPOSITORY, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def started(process: subprocess.Popen[str], sign: Path) -> None:
    while not sign.exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)


def test_a_second_process_waits_and_finds_the_unit_of_the_first(tmp_path: Path):
    holder = python(HOLDER, tmp_path / "unit", tmp_path / "sign", 1.0)
    started(holder, tmp_path / "sign")
    assert not run_unit(tmp_path / "unit", UnitKey(), lambda folder: None)
    assert (tmp_path / "unit/a.txt").read_text() == "of the first process"
    assert holder.wait() == 0


def test_the_lock_of_a_killed_process_is_free_at_once(tmp_path: Path):
    holder = python(HOLDER, tmp_path / "unit", tmp_path / "sign", 600)
    started(holder, tmp_path / "sign")
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    began = time.monotonic()
    assert run_unit(tmp_path / "unit", UnitKey(), lambda folder: None)
    assert time.monotonic() - began < 5
    assert (tmp_path / "unit.lock").is_file()


@pytest.mark.slow
def test_every_module_of_the_library_imports_where_only_windows_modules_are():
    """Third parties are loaded first: theirs is another promise."""
    code = f"""
        import importlib, os, pkgutil, sys
        import filelock, open_clip, requests, segment_anything, scipy.io, timm, torch, torchvision
        for name in {POSIX_ONLY}:
            sys.modules[name] = None
        for name in ("O_CLOEXEC", "O_NONBLOCK", "statvfs", "statvfs_result", "mkfifo", "fork"):
            delattr(os, name)
        import fmbseg
        for module in pkgutil.walk_packages(fmbseg.__path__, "fmbseg."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
        print("all imported")
    """
    process = python(code)
    printed = process.communicate()[0]
    assert process.returncode == 0, printed
    assert printed.endswith("all imported\n")
