"""Every stage of the method on this machine's GPU: throughput, memory, what half precision changes.

Prints Markdown for docs/performance.md. The miniature is asked for its own world's classes in one
of its pictures, other profiles for COCO-Stuff's 171 in a picture of 640 x 480 px. Where a profile's
weights are not here, random ones stand in: speeds hold all the same, label maps are then not
compared. Seconds are the clock's, and the device is waited for before it is read. Pixels are
resized beforehand, as background threads do it in a run.
"""

import argparse
import datetime
import os
import platform
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from time import perf_counter

import numpy as np
import torch

from benchmarks.common import pin_threads
from benchmarks.gpu_stages import ALWAYS_FLOAT32, Answers, answers, bench_of, stages
from fmbseg.models.device import resolve_device
from fmbseg.models.precision import Precision
from fmbseg.store import human_bytes

ROUNDS = 5
FULL: tuple[Precision, ...] = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Speed:
    """How quick a stage is.

    Attributes:
        per_second: units in a second; median of the rounds.
        least: of the slowest round.
        most: of the quickest.
        peak_bytes: most that torch held on the device; None where it does not count.
    """

    per_second: float
    least: float
    most: float
    peak_bytes: int | None

    def words(self) -> str:
        """Such as `812 (790 to 830), 1.2 GB`."""
        rates = [f"{one:.3g}" for one in (self.per_second, self.least, self.most)]
        memory = "" if self.peak_bytes is None else f", {human_bytes(self.peak_bytes)}"
        return f"{rates[0]} ({rates[1]} to {rates[2]}){memory}"


def main(given: Sequence[str] | None = None) -> int:
    """Print both tables; exit code 1 where there is no such device."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda", help="a device of torch (cuda)")
    parser.add_argument("--profiles", nargs="+", default=["miniature", "base"], help="or paper")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each round (2)")
    parser.add_argument(
        "--quick", action="store_true", help="a try: the miniature alone, a single pass"
    )
    arguments = parser.parse_args(given)
    try:
        device = resolve_device(arguments.device)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    profiles, precisions = arguments.profiles, FULL
    timed = partial(speed_of, device=device, seconds=arguments.seconds)
    if arguments.quick:
        profiles, precisions = ["miniature"], FULL[:2]
        timed = partial(speed_of, device=device, seconds=0.0, rounds=1)
    print(f"{_machine(device)}, {datetime.date.today()}\n")
    print(f"| models | stage, a second | {' | '.join(precisions)} |")
    print("|---" * (2 + len(precisions)) + "|", flush=True)
    found = {profile: list(_measure(profile, device, precisions, timed)) for profile in profiles}
    print(f"\n| models | against float32 | {' | '.join(precisions[1:])} |")
    print("|---" * (1 + len(precisions)) + "|")
    for profile, of_precision in found.items():
        for what in (*of_precision[0].numbers, *of_precision[0].labels):
            cells = [one.against(of_precision[0], what) for one in of_precision[1:]]
            print(f"| `{profile}` | {what} | {' | '.join(cells)} |")
    print("\nA cell: units a second, median (least to most) of its rounds, peak of torch's memory.")
    return 0


def _measure(
    profile: str,
    device: torch.device,
    precisions: Sequence[Precision],
    timed: Callable[[Callable[[], int]], Speed],
) -> Iterator[Answers]:
    """Print a row a stage; what the models answer in each precision."""
    rows: dict[str, list[str]] = {}
    for precision in precisions:
        bench = bench_of(profile, device, precision)
        for stage, work in stages(bench).items():
            skipped = precision != "float32" and stage in ALWAYS_FLOAT32
            speed = "as float32" if skipped else timed(work).words()
            rows.setdefault(stage, []).append(speed)
            print(f"{profile} {precision} {stage}: {speed}", file=sys.stderr, flush=True)
        yield answers(bench)
    for stage, cells in rows.items():
        print(f"| `{profile}` | {stage} | {' | '.join(cells)} |", flush=True)


def speed_of(
    work: Callable[[], int], device: torch.device, seconds: float, rounds: int = ROUNDS
) -> Speed:
    """Time a stage in rounds of about so many seconds, after two passes that warm it up.

    Args:
        work: one pass; says how many units it did.
        device: that is waited for before the clock is read.
        seconds: of a round; at 0 it is one pass, and nothing is warmed up.
        rounds: how many.
    """
    counts, passes = device.type == "cuda", 1
    if seconds:
        work()
        passes = max(1, round(seconds / _timed(work, device, 1)[0]))
    if counts:
        torch.cuda.reset_peak_memory_stats(device)
    rates = []
    for _ in range(rounds):
        took, units = _timed(work, device, passes)
        rates.append(units / took)
    peak = torch.cuda.max_memory_allocated(device) if counts else None
    return Speed(statistics.median(rates), min(rates), max(rates), peak)


def _timed(work: Callable[[], int], device: torch.device, passes: int) -> tuple[float, int]:
    """Seconds and units of some passes."""
    _synchronise(device)
    began = perf_counter()
    units = sum(work() for _ in range(passes))
    _synchronise(device)
    return perf_counter() - began, units


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _machine(device: torch.device) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    libraries = ", ".join(f"{one} {version(one)}" for one in ("torch", "open_clip_torch", "timm"))
    return (
        f"{name} (cores of the machine: {os.cpu_count()}), Python {platform.python_version()}, "
        f"numpy {np.__version__}, CUDA {torch.version.cuda or 'none'}, {libraries}"
    )


if __name__ == "__main__":
    pin_threads()
    raise SystemExit(main())
