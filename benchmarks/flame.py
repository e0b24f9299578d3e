"""Where the processor time of `make run` goes: every function with 5 % or more, step by step.

The flow runs in a fresh copy of the checkout, as after an installation, with a thread beside it
that looks at all others 10 times a second: what a thread has used since the last look counts for
the function of this project that it is in, and for the step around that one. What other processes
used (Prefect's server, git) is known from the system. The looking itself takes about 2 %.
"""

import argparse
import json
import runpy
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from types import FrameType

from benchmarks.orchestration import SIZES, measure
from fmbseg.steps.plan import STEPS

EVERY_S, SHARE = 0.1, 0.05
PROJECT, PACKAGES = ("fmbseg", "tasks", "flows"), "site-packages/"
FILES = {f"fmbseg/steps/{step}.py": ("run", step) for step in STEPS} | {
    "fmbseg/steps/training_set.py": ("Features", "train"),
}
"""File to the start of its functions' names, and the step that they belong to."""


def main() -> int:
    """Print a table; nothing is promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", choices=SIZES, default="default", help="of the miniature")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inside:
        return _run(arguments.inside)
    with tempfile.TemporaryDirectory(prefix="fmbseg-flame-") as folder:
        place, file = Path(folder), Path(folder, "samples.json")
        command = ("-m", "benchmarks.flame", "--inside", str(file))
        whole = measure(command, place / "run", place / "outside", SIZES[arguments.size])
        found = json.loads(file.read_text())
    used = {(step, function): float(seconds) for step, function, seconds in found["used"]}
    used["other processes: Prefect's server, git", ""] = whole.processor - found["processor"]
    print(
        f"`make run` from nothing: {whole.wall:.0f} s, of which {whole.before:.0f} s before the "
        f"first unit and {whole.after:.0f} s after the last; processor {whole.processor:.0f} s\n"
    )
    print("| step | in | processor, s | share |\n|---|---|---|---|")
    for step, function, seconds in rows(used):
        print(f"| {step} | {function} | {seconds:.1f} | {seconds / whole.processor:.0%} |")
    return 0


def rows(used: Mapping[tuple[str, str], float]) -> list[tuple[str, str, float]]:
    """(step, function, seconds) with `SHARE` of the whole or more; of each step also the rest."""
    whole, found = sum(used.values()), list[tuple[str, str, float]]()
    steps = defaultdict[str, float](float)
    for (step, _), seconds in used.items():
        steps[step] += seconds
    for step, seconds in sorted(steps.items(), key=lambda one: -one[1]):
        large = [
            (step, function, one) for (at, function), one in used.items()
            if at == step and one >= SHARE * whole
        ]  # fmt: skip
        large.sort(key=lambda row: -row[2])
        rest = seconds - sum(one for *_, one in large)
        found += [*large, (step, "all else" if large else "all", rest)]
    return found


def _run(file: Path) -> int:
    """`python -m flows.run` in this process, under the sampler."""
    sampler = Sampler()
    sampler.start()
    sys.argv[1:] = []
    try:
        runpy.run_module("flows.run", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        return int(end.code or 0)
    finally:
        sampler.stop.set()
        sampler.join()
        used = [(*key, seconds) for key, seconds in sampler.used.items()]
        file.write_text(json.dumps({"used": used, "processor": time.process_time()}))
    return 0


class Sampler(threading.Thread):
    """Adds up what each thread uses, by where it is.

    Attributes:
        used: processor seconds of (step, function).
        stop: set to end it.
    """

    def __init__(self) -> None:
        super().__init__(name="sampler", daemon=True)
        self.used = defaultdict[tuple[str, str], float](float)
        self.stop = threading.Event()
        self._before: dict[int, int] = {}

    def run(self) -> None:
        """Look again and again."""
        while not self.stop.wait(EVERY_S):
            frames = sys._current_frames()
            for thread in threading.enumerate():
                frame = frames.get(thread.ident or 0)
                if frame is None or thread.native_id is None:
                    continue
                try:
                    text = Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text()
                except OSError:  # it has ended
                    continue
                now = int(text.split()[0])
                seconds = (now - self._before.get(thread.native_id, 0)) / 1e9
                self._before[thread.native_id] = now
                if seconds > 0:
                    key = ("these looks", "") if thread is self else place(stack(frame))
                    self.used[key] += seconds


def stack(frame: FrameType | None) -> list[tuple[str, str]]:
    """(file, function) of all calls, innermost first."""
    found = []
    while frame is not None:
        found.append((frame.f_code.co_filename, frame.f_code.co_qualname))
        frame = frame.f_back
    return found


def place(calls: list[tuple[str, str]]) -> tuple[str, str]:
    """Step and function of a stack, innermost call first.

    The function is the innermost of this project's. Where there is none, the package that is
    outermost counts; an import counts as one wherever it happens.
    """
    own = [(_own(file), name) for file, name in calls]
    known = [(name, *FILES[file]) for file, name in own if file in FILES]
    steps = [step for name, start, step in known if name.startswith(start)]
    step = steps[0] if steps else "around the steps"
    if any("importlib._bootstrap" in file for file, _ in calls):
        return step, "imports"
    inner = next(((file, name) for file, name in own if file), None)
    if inner is not None:
        return step, f"`{inner[0].removeprefix('fmbseg/')}` {inner[1]}"
    packages = [file.partition(PACKAGES)[2].partition("/")[0] for file, _ in calls]
    return step, next((package for package in reversed(packages) if package), "Python")


def _own(file: str) -> str:
    """A file's path from `fmbseg/`, `tasks/` or `flows/` on; empty for another's file."""
    path, root = Path(file), Path.cwd()
    inside = path.relative_to(root).as_posix() if path.is_relative_to(root) else ""
    return inside if inside.partition("/")[0] in PROJECT else ""


if __name__ == "__main__":
    sys.exit(main())
