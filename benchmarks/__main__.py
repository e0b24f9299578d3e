"""Run benchmarks one after the other; with --write their tables go into docs/performance.md."""

import argparse
import datetime
import os
import platform
import re
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks.common import BROKEN

REPOSITORY = Path(__file__).parents[1]
PAGE = REPOSITORY / "docs" / "performance.md"
ASKED_FOR = ("gpu", "orchestration", "streams")
"""What runs only when it is named: it needs a GPU, or more than a quarter of an hour."""


def benchmarks() -> list[str]:
    """Names of all benchmarks: the modules of this folder that have a `main`."""
    files = sorted(Path(__file__).parent.glob("[!_]*.py"))
    return [file.stem for file in files if "\ndef main(" in file.read_text()]


def main() -> int:
    """Run, print, write; exit code 1 where one failed or found a promise broken."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(benchmarks())}")
    parser.add_argument("--write", action="store_true", help=f"into {PAGE.name}")
    arguments = parser.parse_args()
    names = arguments.names or [name for name in benchmarks() if name not in ASKED_FOR]
    if unknown := set(names) - {*benchmarks()}:
        parser.error(f"found {min(unknown)}; wanted one of {', '.join(benchmarks())}")
    began, failed = time.perf_counter(), []
    for name in names:
        print(f"## {name}", flush=True)
        code, printed, seconds = _run(name)
        about = f"`make bench ONLY={name}`, {datetime.date.today()}, {seconds:.0f} s. {machine()}"
        print(f"\n{about}\n", flush=True)
        if arguments.write and code in (0, BROKEN):
            PAGE.write_text(placed(PAGE.read_text(), name, f"{printed.strip()}\n\n{about}"))
        if code != 0:
            failed.append(f"{name} {'broke a promise' if code == BROKEN else 'failed'}")
    print(f"{len(names)} benchmarks in {(time.perf_counter() - began) / 60:.1f} min")
    print("; ".join(failed) or "every promise is kept")
    return 1 if failed else 0


def _run(name: str) -> tuple[int, str, float]:
    """Run a benchmark in a process of its own, one thread a library; shows what it prints."""
    began, lines = time.perf_counter(), []
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    with subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.{name}"], cwd=REPOSITORY, text=True,
        stdout=subprocess.PIPE, env={**os.environ, **threads},
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    return process.returncode, "".join(lines), time.perf_counter() - began


def placed(page: str, name: str, text: str) -> str:
    """The page with a benchmark's text between its markers.

    Raises:
        ValueError: the page does not have the markers once.
    """
    markers = f"<!-- bench:{name} -->", "<!-- /bench -->"
    pattern = f"({re.escape(markers[0])}\n).*?({re.escape(markers[1])})"
    found, count = re.subn(pattern, lambda m: f"{m[1]}{text}\n{m[2]}", page, flags=re.DOTALL)
    if count != 1:
        raise ValueError(
            f"{PAGE.name}: found {markers[0]} ... {markers[1]} {count} times; wanted it once; "
            "add the two lines where the table belongs"
        )
    return found


def machine() -> str:
    """What it was measured on: processors, device, system, versions, how busy."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file() and (named := re.search(r"model name\s*: (.*)", info.read_text())):
        cpu = named[1]
    device = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "numpy"))
    busy = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return (
        f"{os.cpu_count()} × {cpu}{device}, {platform.system()}, "
        f"Python {platform.python_version()}, {versions}{busy}."
    )


if __name__ == "__main__":
    sys.exit(main())
