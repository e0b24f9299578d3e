"""What a run with very many images costs before and beside its work: looking, listing, hashing.

A folder with as many files as COCO has images, all shards but a few made up to date by stand-ins
(small files under their right keys). Measured, each in a process of its own: a look that finds the
first unit with something to do; a run through stage 1 from its beginning to its end, which must
start the few shards that are new and no other, and makes them by stand-ins; the look of a run that
has nothing to do.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from benchmarks.common import BROKEN
from fmbseg.estimate.memory import peak_bytes
from fmbseg.steps import plan, pseudo_masks
from fmbseg.steps.shards import shards
from fmbseg.steps.step import Unit
from fmbseg.steps.workspace import Workspace
from fmbseg.store import hashes, run_unit, write_json

REPOSITORY = Path(__file__).parents[1]
COCO_IMAGES = 118_287
SECONDS, MEGABYTES = 20.0, 500


def main() -> int:
    """Print a table; the exit code tells where a promise is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=COCO_IMAGES)
    parser.add_argument("--new-shards", type=int, default=3)
    parser.add_argument("--measure", choices=list(_MEASURED), help=argparse.SUPPRESS)
    parser.add_argument("--root", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(_measured(arguments.measure, Path(arguments.root))))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make(root, arguments.images, 0)
        time.sleep(hashes.SETTLED_NS / 1e9)
        in_process("nothing", root, shown=False)  # as earlier runs did
        print(f"{arguments.images:,} images, {arguments.new_shards} shards of them new\n")
        print("| what | s | peak memory, MB | shards started |")
        print("|---|---|---|---|")
        found = []
        for _ in range(3):
            forget(root, arguments.new_shards)
            found += [in_process(what, root) for what in ("look", "run", "nothing")]
    kept = all(one["seconds"] <= SECONDS and one["megabytes"] <= MEGABYTES for one in found)
    right = all(one["started"] in (None, arguments.new_shards) for one in found)
    print(f"\npromise: {SECONDS:.0f} s and {MEGABYTES} MB each: {'kept' if kept else 'BROKEN'}")
    return 0 if kept and right else BROKEN


def make(root: Path, images: int, new_shards: int) -> None:
    """Make a workspace whose images are files of zeros, which nobody opens as pictures here."""
    folder = root / "images"
    for index in range(images):
        path = folder / f"{index // 10_000:02d}" / f"{index:012d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.write(b"%012d" % index)
            file.truncate(2 * hashes.SMALL_BYTES)
    (root / "classes.txt").write_text("road\ncar\nsky\n")
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    params["data"] |= {"images": str(folder), "classes": str(root / "classes.txt")}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    plan.run_step(Workspace.open(root), "download")
    fill(root, new_shards)


def fill(root: Path, new_shards: int) -> None:
    """Make all shards but so many up to date, by stand-ins."""
    workspace = Workspace.open(root)
    names = list(shards(workspace))
    for name in names[: len(names) - new_shards]:
        unit = plan.unit_named(workspace, "pseudo_masks", name)
        run_unit(unit.folder, unit.key(), _stand_in)


def forget(root: Path, shards_: int) -> None:
    """Delete the outputs of the last shards."""
    for folder in sorted((root / "data/pseudo_masks").glob("[!.]*/"))[-shards_:]:
        shutil.rmtree(folder)


def _stand_in(out: Path) -> None:
    for name in ("stage11.json", "stage12.json", "presence.json"):
        write_json(out / name, {})
    write_json(out / "quarantine.json", [])


def in_process(what: str, root: Path, *, shown: bool = True) -> dict[str, Any]:
    """Do one of `_MEASURED` in a fresh process; gives its wall clock seconds and megabytes."""
    command = ["-m", "benchmarks.bookkeeping", "--measure", what, "--root", str(root)]
    done = subprocess.run(
        [sys.executable, *command], cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, Any] = json.loads(done.stdout)
    started = "" if found["started"] is None else found["started"]
    if shown:
        figures = f"{found['seconds']:.1f} | {found['megabytes']:.0f} | {started}"
        print(f"| {found['what']} | {figures} |", flush=True)
    return found


def _measured(what: str, root: Path) -> dict[str, Any]:
    words, call = _MEASURED[what]
    began = time.perf_counter()
    started = call(root)
    return {
        "what": words, "seconds": time.perf_counter() - began, "started": started,
        "megabytes": peak_bytes() / 1e6,
    }  # fmt: skip


def _look(root: Path) -> None:
    assert plan.problem(Workspace.open(root)) is not None


def _nothing(root: Path) -> None:
    """Look at a workspace in which nothing is new."""
    found = plan.problem(Workspace.open(root), "pseudo_masks")
    assert found is None, found


def _run(root: Path) -> int:
    started, said = list[str](), list[str]()

    def start(unit: Unit) -> None:
        if unit.of is pseudo_masks.STEP:
            run_unit(unit.folder, unit.key(), _stand_in)
            started.append(unit.name)
        else:
            unit.run()

    look = partial(Workspace.open, root)
    plan.Stages(look, start, lambda _: None, said.append).run_through("pseudo_masks")
    print(*said, sep="\n", file=sys.stderr)
    return len(started)


_MEASURED: dict[str, tuple[str, Callable[[Path], int | None]]] = {
    "look": ("a look until the first new shard", _look),
    "run": ("a run through stage 1: look, submit, finish", _run),
    "nothing": ("a look when nothing is new", _nothing),
}

if __name__ == "__main__":
    sys.exit(main())
