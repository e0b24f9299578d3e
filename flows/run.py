"""`make run`: the flow on this machine, with a Prefect server where one answers, else without."""

import argparse
import contextlib
import os
import signal
import sys
import textwrap
import time
from importlib import import_module
from pathlib import Path

# A terminal shows bars, a log file lines. Set before tqdm and prefect are loaded.
if sys.stderr.isatty():
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "WARNING")
else:
    os.environ.setdefault("TQDM_DISABLE", "1")

from flows.api import OwnServer, answering, own_server
from flows.ending import ending
from flows.finished import nothing_to_do
from fmbseg.cli import add_run_options
from fmbseg.errors import MISTAKE, STOPPED, say
from fmbseg.interrupts import GOES_ON, stops_twice
from fmbseg.steps.choose_workspace import Asked, open_workspace
from fmbseg.steps.workspace import Workspace


def main() -> int:
    """Parse the command line, prepare the workspace, run the flow, print the figures."""
    parser = argparse.ArgumentParser(prog="python -m flows.run", description=__doc__)
    add_run_options(parser)
    arguments = parser.parse_args()
    with stops_twice():
        try:
            return _run(arguments)
        except KeyboardInterrupt:
            return STOPPED


def _run(arguments: argparse.Namespace) -> int:
    try:
        root = open_workspace(Asked(**vars(arguments)), say=_say)
    except Exception as error:
        return say("fmbseg", error)
    began = time.perf_counter()
    if answering() is None and nothing_to_do(root):
        _say("==> nothing to do: all is up to date, and recorded in DVC and MLflow")
        return _say_end(root, began)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with _server() as server:
        try:
            from flows.pipeline import fmbseg  # takes seconds, in which the server starts
            from fmbseg.steps.departures import departure_lines
            from fmbseg.steps.ready import not_ready

            problem = not_ready(Workspace.open(root))
            if problem is not None:
                print(f"fmbseg: {problem}", file=sys.stderr)
                return MISTAKE
            for line in departure_lines(Workspace.open(root).params):
                _say(textwrap.fill(f"==> {line}", 110, subsequent_indent="    "))
            if server is not None:
                import_module("fmbseg.models.build")  # stage 1 needs it, the server is not up yet
                server.wait()
            fmbseg(str(root))
        except Exception as error:
            print(f"fmbseg: {type(error).__name__}: {error}", file=sys.stderr)
            if type(error).__name__ == "PrefectHTTPStatusError" and server is not None:
                print(f"fmbseg: the run's own server: {server.trouble()}", file=sys.stderr)
            print(f"fmbseg: {GOES_ON}", file=sys.stderr)
            return 1
    return _say_end(root, began)


def _say_end(root: Path, began: float) -> int:
    from fmbseg.steps.figures import summary

    workspace = Workspace.open(root)
    print(summary(workspace))
    print(ending(workspace))
    page = workspace.report / "index.html"
    print(f"pipeline: {time.perf_counter() - began:.0f} s    report: {page}")
    return 0


def _say(line: str) -> None:
    print(line, flush=True)


def _server() -> contextlib.AbstractContextManager[OwnServer | None]:
    """The configured server when one answers, else a server for this run alone."""
    url = answering()
    if url is not None:
        print(f"==> Prefect server at {url}")
        return contextlib.nullcontext()
    print("==> no Prefect server answers: the run starts one for itself (ephemeral)")
    return own_server()


if __name__ == "__main__":
    sys.exit(main())
