"""Growth with the number of images: time an image and peak memory must stay flat.

Stage 1 and evaluation (`maskclip`) go over miniature images, bookkeeping is a look at that many
names when nothing is new. Each size is measured in processes of its own, in processor seconds of
one thread (bookkeeping: wall clock). Every figure is kept in a folder as it is found: the same
command goes on where one that was cut, or whose --minutes were over, has ended; other code begins
anew.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from benchmarks import bookkeeping
from benchmarks.common import BROKEN, ROUNDS, pin_threads
from fmbseg.estimate.memory import peak_bytes
from fmbseg.steps import plan
from fmbseg.steps.code import code_of
from fmbseg.steps.foundation_models import models_of
from fmbseg.steps.shards import shards
from fmbseg.steps.workspace import Workspace
from fmbseg.store import hashes, read_json, sha_of, write_json

REPOSITORY = Path(__file__).parents[1]
KINDS = ("stage1", "evaluate", "bookkeeping")
SIZES = {"stage1": (100, 300), "evaluate": (100, 300), "bookkeeping": (100, 1_000, 10_000)}
"""What `make bench` has time for."""
SHARD_IMAGES, GROWTH = 20, 1.1
Figures = list[dict[str, Any]]


def main() -> int:
    """Print a table of all that is known; the exit code tells where a size is not flat."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--sizes", nargs="+", type=int, help="such as 100 1000 10000 118287")
    parser.add_argument("--minutes", type=float, default=10.0, help="no shard starts after them")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / ".scratch" / "growth")
    parser.add_argument("--measure", nargs=2, metavar=("KIND", "SIZE"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    folder, until = arguments.folder.resolve(), time.time() + 60 * arguments.minutes
    if arguments.measure:
        kind, size = arguments.measure
        _measure(kind, int(size), folder, until)
        return 0
    code = {"code": sha_of([asdict(code_of(step)) for step in plan.STEPS])}
    if not (folder / "code.json").is_file() or read_json(folder / "code.json") != code:
        shutil.rmtree(folder, ignore_errors=True)
        write_json(folder / "code.json", code)
    for kind in arguments.kinds:
        sizes = [one for one in arguments.sizes or SIZES[kind] if _left(folder, kind, one)]
        if kind == "bookkeeping":
            _bookkeeping(folder, sizes)
            continue
        for size in sizes:
            if time.time() < until:
                minutes = str((until - time.time()) / 60)
                command = ["--measure", kind, str(size), "--folder", str(folder)]
                subprocess.run(
                    [sys.executable, "-m", "benchmarks.growth", *command, "--minutes", minutes],
                    cwd=REPOSITORY, check=True, stdout=sys.stderr,
                )  # fmt: skip
    return show(folder)


def _figures(folder: Path, kind: str, size: int) -> Figures:
    """`[{"images", "seconds", "megabytes", "process"}]`, a line a shard."""
    file = folder / f"{kind}-{size}.jsonl"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


def _left(folder: Path, kind: str, size: int) -> bool:
    return size > sum(int(one["images"]) for one in _figures(folder, kind, size))


def _measure(kind: str, size: int, folder: Path, until: float) -> None:
    """Go on with a size until it is finished or the time is over; then its images are removed."""
    pin_threads()
    root, file = folder / f"{kind}-{size}", folder / f"{kind}-{size}.jsonl"
    process = len({one["process"] for one in _figures(folder, kind, size)})
    for unit, images in _units(kind, size, root):
        if time.time() > until:
            return
        began = time.process_time()
        unit()
        _note(file, images, time.process_time() - began, peak_bytes() / 1e6, process)
    shutil.rmtree(root)


def _bookkeeping(folder: Path, sizes: list[int]) -> None:
    """Look several times at workspaces of these sizes."""
    roots = {size: folder / f"bookkeeping-{size}" for size in sizes}
    for size, root in roots.items():
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir()
        bookkeeping.make(root, size, 0)
    time.sleep(hashes.SETTLED_NS / 1e9 if roots else 0)
    for size, root in roots.items():
        looks = [bookkeeping.in_process("nothing", root, shown=False) for _ in range(ROUNDS + 1)]
        for number, one in enumerate(looks[1:]):  # the first one finds no hashes kept
            file = folder / f"bookkeeping-{size}.jsonl"
            _note(file, size, one["seconds"], one["megabytes"], number)
        shutil.rmtree(root)


def _note(file: Path, images: int, seconds: float, megabytes: float, process: int) -> None:
    found = {"images": images, "seconds": seconds, "megabytes": megabytes, "process": process}
    with file.open("a") as lines:
        lines.write(json.dumps(found) + "\n")


def _units(kind: str, size: int, root: Path) -> Iterator[tuple[Callable[[], object], int]]:
    """What is to be timed, with its number of images; all that it needs is made before."""
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    counts = (size, 1) if kind == "stage1" else (1, size)
    params["data"] |= dict(zip(("train_images", "test_images"), counts, strict=True))
    params["data"] |= {"val_images": 1, "shard_images": SHARD_IMAGES}
    params["evaluate"]["methods"] = ["maskclip"]
    root.mkdir(exist_ok=True)
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    workspace = Workspace.open(root)
    plan.run_step(workspace, "download")
    models_of(workspace)
    if kind == "evaluate":
        yield plan.unit_named(workspace, "evaluate", "maskclip-miniature").run, size
        return
    for unit in plan.units_of(workspace, "pseudo_masks"):
        if not unit.folder.is_dir():
            yield unit.run, len(shards(workspace)[unit.name])


def show(folder: Path) -> int:
    """Print what a folder knows; returns the exit code."""
    print("| what | images | ms an image | peak memory, MB | against the size before | flat |")
    print("|---|---|---|---|---|---|")
    flat = True
    for kind in KINDS:
        before: tuple[float, float] | None = None
        sizes = sorted(int(file.stem.partition("-")[2]) for file in folder.glob(f"{kind}-*.jsonl"))
        for size in sizes:
            found = _figures(folder, kind, size)
            images = min(sum(one["images"] for one in found), size)
            each = [1e3 * one["seconds"] / one["images"] for one in found]
            now = statistics.median(each), max(one["megabytes"] for one in found)
            times = [a / b for a, b in zip(now, before, strict=True)] if before else []
            good = all(one <= GROWTH for one in times)
            flat &= good
            spread = f" ({min(each):.3g} to {max(each):.3g})" if len(each) > 1 else ""
            count = f"{images:,}" + (f" of {size:,}" if images < size else "")
            processes = len({one["process"] for one in found})
            count += f", {processes} processes" if processes > 1 else ""
            cells = [kind, count, f"{now[0]:.3g}{spread}", f"{now[1]:.0f}",
                     ", ".join(f"× {one:.2f}" for one in times) or "-",
                     ("yes" if good else "NO") if times else "-"]  # fmt: skip
            print(f"| {' | '.join(cells)} |", flush=True)
            before = now
    words = f"a size has at most {GROWTH:g} times the figures of the one before"
    print(f"\nFlat: {words}: {'yes' if flat else 'NO'}.")
    return 0 if flat else BROKEN


if __name__ == "__main__":
    sys.exit(main())
