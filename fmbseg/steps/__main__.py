"""`python -m fmbseg.steps STEP`: the command of a DVC stage. It runs the step as tasks do."""

import argparse
import signal
import sys
from pathlib import Path

from fmbseg.allocator import keep_memory
from fmbseg.errors import say
from fmbseg.progress import lines_to_stderr
from fmbseg.steps.plan import STEPS, run_step
from fmbseg.steps.workspace import Workspace


def main() -> int:
    """Run all units of one step; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m fmbseg.steps", description=__doc__)
    parser.add_argument("step", choices=list(STEPS))
    parser.add_argument("--workspace", type=Path, default=Path())
    parser.add_argument("--unit", help="one unit of the step; default: all of them")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    keep_memory()
    lines_to_stderr()
    try:
        done = run_step(Workspace.open(arguments.workspace), arguments.step, arguments.unit)
    except Exception as error:
        say(arguments.step, error)
        return 1
    except (KeyboardInterrupt, _Stopped) as stop:
        print(f"\n{arguments.step}: stopped; the same command goes on", file=sys.stderr)
        return 128 + (signal.SIGTERM if isinstance(stop, _Stopped) else signal.SIGINT)
    for unit, computed in done.items():
        print(f"{arguments.step} {unit}: {'computed' if computed else 'up to date'}")
    return 0


class _Stopped(BaseException):
    """SIGTERM arrived; like Ctrl-C it passes by whatever handles errors."""


def _stop(number: int, frame: object) -> None:
    raise _Stopped


if __name__ == "__main__":
    sys.exit(main())
