"""`make run`: the flow on this machine, with a Prefect server where one answers, else without."""

import argparse
import contextlib
import os
import shutil
import signal
import sys
import time
from pathlib import Path

# A terminal shows bars, a log file lines. Set before tqdm and prefect are loaded.
if sys.stderr.isatty():
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "WARNING")
else:
    os.environ.setdefault("TQDM_DISABLE", "1")

from flows.api import OwnServer, answering, own_server
from flows.parameters import write_params
from fmbseg.params import ParamsError
from fmbseg.steps.download import DataError, check
from fmbseg.steps.workspace import Workspace
from fmbseg.vocabulary import VocabularyError


def main() -> int:
    """Parse the command line, prepare the workspace, run the flow, print the figures."""
    parser = argparse.ArgumentParser(prog="python -m flows.run", description=__doc__)
    parser.add_argument("--images", help="folder of your own images (any depth)")
    parser.add_argument("--classes", help="text file, one class a line, synonyms after commas")
    parser.add_argument("--labels", help="label PNGs with the images' stems, to score (optional)")
    parser.add_argument("--ignore-label", type=int, help="number in the labels that means none")
    parser.add_argument(
        "--workspace", type=Path, help="where outputs go; default . or runs/<folder>"
    )
    arguments = parser.parse_args()
    try:
        root = _prepare(arguments)
        check(Workspace.open(root))
    except (ParamsError, DataError, VocabularyError, OSError) as error:
        print(f"fmbseg: {error}", file=sys.stderr)
        return 2
    began = time.perf_counter()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with _server() as server:
        try:
            from flows.pipeline import fmbseg  # takes seconds, in which the server starts
            from fmbseg.steps.figures import summary

            if server is not None:
                server.wait()
            page = fmbseg(str(root))
        except Exception as error:
            print(f"fmbseg: {type(error).__name__}: {error}", file=sys.stderr)
            if type(error).__name__ == "PrefectHTTPStatusError" and server is not None:
                print(f"fmbseg: the run's own server: {server.trouble()}", file=sys.stderr)
            print("fmbseg: nothing finished is lost; the same command goes on", file=sys.stderr)
            return 1
    print(summary(Workspace.open(root)))
    print(f"pipeline: {time.perf_counter() - began:.0f} s    report: {page}")
    return 0


def _prepare(arguments: argparse.Namespace) -> Path:
    """The workspace: the repository itself, or a folder with its own copy of params.yaml."""
    if arguments.images is None:
        return arguments.workspace or Path()
    if arguments.classes is None:
        raise ParamsError("--images needs --classes: a text file with one class name a line")
    folder = Path(arguments.images)
    name = folder.resolve().parent.name if folder.name == "images" else folder.resolve().name
    root: Path = arguments.workspace or Path("runs") / name
    root.mkdir(parents=True, exist_ok=True)
    if not (root / "params.yaml").exists():
        shutil.copyfile("params.yaml", root / "params.yaml")
    overrides = {
        "data.images": str(folder),
        "data.classes": str(Path(arguments.classes)),
        "data.labels": str(Path(arguments.labels)) if arguments.labels else None,
    }
    if arguments.ignore_label is not None:
        overrides["data.ignore_label"] = arguments.ignore_label
    write_params(root / "params.yaml", overrides)
    print(f"==> workspace {root} (its own params.yaml, data/, models/, reports/)")
    return root


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
