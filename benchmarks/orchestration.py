"""What Prefect, MLflow and DVC cost: `make run` against the same units in plain Python.

Both are whole processes, from the interpreter's start to its end, each in a fresh copy of the
checkout with the same params.yaml. The plain one maps the units over as many threads as
`runner.workers` says, in the flow's order and with its dependencies; it starts no server, tracks
nothing and commits nothing. The two take turns at going first. One flow runs unmeasured before:
the first one on a machine also makes Prefect's database.

The promise, on the medians: flow <= 1.05 x plain + 12 s. Exit code 1 when it is broken. Run it on
a machine that does nothing else; where something else ran, look at the processor seconds.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).parents[1]
FACTOR, SECONDS = 1.05, 12.0
SIZES: dict[str, dict[str, dict[str, Any]]] = {
    "small": {
        "data": {"train_images": 12, "val_images": 2, "test_images": 6, "shard_images": 5},
        "pseudo_masks": {"points_per_side": 6},
        "train": {"epochs": 4, "save_every_seconds": 0.0},
        "evaluate": {"examples": 1},
        "report": {"gallery_images": 2},
    },
    "default": {},
}
"""What of params.yaml is changed, section by section."""
_COPIED = ("fmbseg", "flows", "tasks", ".dvc/config", "pyproject.toml", "dvc.yaml", ".dvcignore",
           ".gitignore")  # fmt: skip
WAYS = {
    "flow": ("-m", "flows.run"),
    "plain": ("-m", "benchmarks.plain"),
}


@dataclass(frozen=True)
class Measured:
    """One run, in seconds.

    Attributes:
        wall: the whole process: `before` + `units` + `after`.
        before: until the first unit begins: imports, the run's own server.
        units: until the last unit is in place.
        after: the rest: DVC's commit, MLflow's run, the end of the server.
        processor: user and system time of all its processes.
    """

    wall: float
    before: float
    units: float
    after: float
    processor: float


def measure(
    command: Sequence[str], root: Path, outside: Path, sections: dict[str, dict[str, Any]]
) -> Measured:
    """Run Python with a command line in a fresh copy of the checkout at `root`, which is made.

    Raises:
        RuntimeError: it failed.
    """
    environment = _copy_checkout(root, outside, sections)
    log = outside / f"{root.name}.log"
    with log.open("wb") as printed:
        began = time.time()
        process = subprocess.Popen(
            [sys.executable, *command], cwd=root, env=environment,
            stdin=subprocess.DEVNULL, stdout=printed, stderr=printed,
        )  # fmt: skip
        _, status, used = os.wait4(process.pid, 0)
        ended = time.time()
    if os.waitstatus_to_exitcode(status) != 0:
        raise RuntimeError(f"{command}: {log.read_text(errors='replace')[-2000:]}")
    first = min(lock.stat().st_mtime for lock in (root / "data" / "download").glob("*.lock"))
    last = (root / "reports" / "report" / "manifest.json").stat().st_mtime
    return Measured(
        ended - began, first - began, last - first, ended - last, used.ru_utime + used.ru_stime
    )


def _copy_checkout(
    root: Path, outside: Path, sections: dict[str, dict[str, Any]]
) -> dict[str, str]:
    """Copy the checkout to `root`; gives the environment for commands in it, without a server."""
    for name in _COPIED:
        source, target = REPOSITORY / name, root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    (root / "data" / "drops").mkdir(parents=True)
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    for section, values in sections.items():
        params[section] |= values
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    subprocess.run(["git", "init", "--quiet", str(root)], check=True)
    outside.mkdir(exist_ok=True)
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "FMBSEG_"))},
        "PYTHONPATH": f"{root}{os.pathsep}{REPOSITORY}", "PREFECT_HOME": str(outside / "prefect"),
        "PREFECT_API_URL": "http://127.0.0.1:9/api", "DVC_SITE_CACHE_DIR": str(outside / "dvc"),
        "DVC_NO_ANALYTICS": "true", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true",
        "HF_HUB_OFFLINE": "1",
    }  # fmt: skip


def main() -> int:
    """Measure the pairs, print them, and hold the promise."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--size", choices=SIZES, default="small", help="default: params.yaml's own")
    parser.add_argument("--pairs", type=int, default=3)
    arguments = parser.parse_args()
    names = [field.name for field in fields(Measured)]
    print("\t".join(["way", *names]), flush=True)
    found: dict[str, list[Measured]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory(prefix="fmbseg-orchestration-") as folder:
        place = Path(folder)
        _show("first", measure(WAYS["flow"], place / "first", place / "outside", SIZES["small"]))
        for pair in range(arguments.pairs):
            for way in sorted(WAYS, reverse=pair % 2 == 1):
                root = place / f"{way}{pair}"
                one = measure(WAYS[way], root, place / "outside", SIZES[arguments.size])
                found[way].append(one)
                _show(way, one)
    flow, straight = found["flow"], found["plain"]
    for way, runs in found.items():
        walls = [run.wall for run in runs]
        print(
            f"{way}: median {statistics.median(walls):.1f} s, {min(walls):.1f} to {max(walls):.1f}"
        )
    medians = [statistics.median(run.wall for run in runs) for runs in (flow, straight)]
    spent = [statistics.median(run.processor for run in runs) for runs in (flow, straight)]
    limit = FACTOR * medians[1] + SECONDS
    kept = medians[0] <= limit
    print(
        f"flow / plain {medians[0] / medians[1]:.2f}, flow - plain {medians[0] - medians[1]:.1f} s "
        f"(processor {spent[0] - spent[1]:.1f} s)\n"
        f"promise: flow <= {FACTOR} x plain + {SECONDS:.0f} s = {limit:.1f} s: "
        f"{'kept' if kept else 'BROKEN'}"
    )
    return 0 if kept else 1


def _show(way: str, measured: Measured) -> None:
    print("\t".join([way, *(f"{seconds:.1f}" for seconds in astuple(measured))]), flush=True)


if __name__ == "__main__":
    sys.exit(main())
