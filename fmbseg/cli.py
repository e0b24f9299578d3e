"""The console script `fmbseg`: run, label, export, predict, estimate, download, doctor, ..."""

import argparse
import os
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from fmbseg.allocator import keep_memory
from fmbseg.commands.answer import Answer, add_common_options, print_json, voice, wants_json
from fmbseg.commands.completion import add_completion
from fmbseg.commands.export_model_options import add_export_model, add_export_words
from fmbseg.commands.label_options import add_export, add_import, add_label, add_preview
from fmbseg.commands.predict_options import add_adapt, add_model_options, add_predict
from fmbseg.commands.push_to_hub_options import add_push_to_hub
from fmbseg.errors import BROKEN_PIPE, STOPPED, one_line, say
from fmbseg.garbage import search_rarely
from fmbseg.progress import lines_to_stderr

_HOMES = {
    "import": ("import_labels", "import_labels"),
    "export-model": ("export_model", "export_model"),
    "export-words": ("export_model", "export_words"),
    "push-to-hub": ("push_to_hub", "push_to_hub"),
}
"""Commands whose module and function are not called like them."""


def main(argv: list[str] | None = None) -> int:
    """Run one sub-command; what went wrong is one line on stderr, never a trace.

    Returns:
        The exit code; docs/cli.md lists them.
    """
    keep_memory()
    search_rarely()
    lines_to_stderr()
    arguments = _parser().parse_args(argv)
    command: str = arguments.command
    try:
        try:
            with voice(arguments):
                answer = _run(arguments)
        except BrokenPipeError:
            raise
        except Exception as error:
            code = say(f"fmbseg {command}", error)  # raises what is a fault
            answer = Answer({"error": one_line(error)}, code)
        if wants_json(arguments):
            print_json(command, answer.code, answer.facts)
        sys.stdout.flush()
        return answer.code
    except KeyboardInterrupt:
        print(f"\nfmbseg {command}: stopped; what is finished stays", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:
        _close_stdout()
        return BROKEN_PIPE


def _run(arguments: argparse.Namespace) -> Answer:
    module, function = _HOMES.get(arguments.command, (arguments.command, arguments.command))
    run = getattr(import_module(f"fmbseg.commands.{module}"), function)
    answer = run(arguments)
    return answer if isinstance(answer, Answer) else Answer(code=int(answer))


def _close_stdout() -> None:
    """Send what is still buffered nowhere: Python would fail at it once more when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="fmbseg", description=__doc__)
    parser.add_argument("--version", action="version", version=f"fmbseg {version('fmbseg')}")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="all steps, without a server")
    add_run_options(run)
    add_label(commands.add_parser("label", help="labels for a folder of images, in any format"))
    add_adapt(commands.add_parser("adapt", help="a trained model goes on with other images"))
    add_preview(commands.add_parser("preview", help="try class names on a few images first"))
    add_export(commands.add_parser("export", help="labels of a run, in formats of other tools"))
    _add_review(commands.add_parser("review", help="a page where masks are put right by hand"))
    add_export_model(commands.add_parser("export-model", help="a trained model as an ONNX file"))
    add_export_words(commands.add_parser("export-words", help="other words for such a file"))
    add_import(commands.add_parser("import", help="labels that were edited in another tool"))
    _add_download(commands.add_parser("download", help="public data sets and model weights"))
    _add_estimate(commands.add_parser("estimate", help="time, disk and memory of a whole run"))
    add_predict(commands.add_parser("predict", help="label maps and overlays for images"))
    _add_serve(commands.add_parser("serve", help="a trained model behind HTTP, on this machine"))
    add_push_to_hub(commands.add_parser("push-to-hub", help="a trained model's head to a hub"))

    doctor = commands.add_parser("doctor", help="versions, device, weights, disk, offline state")
    _add_params(doctor)

    init = commands.add_parser("init", help="a project of your own: flows, tasks, DVC stages")
    init.add_argument("folder", type=Path)
    _add_miniature(commands.add_parser("miniature", help="the shipped small world"))
    completion = commands.add_parser("completion", help="a script that completes words in a shell")
    add_completion(completion, parser)
    add_common_options(commands.choices)
    return parser


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """What `fmbseg run` and `make run` (`python -m flows.run`) take."""
    parser.add_argument("--images", type=Path, help="folder of your own images (any depth)")
    parser.add_argument(
        "--classes", type=Path, help="text file, one class a line, synonyms after commas"
    )
    parser.add_argument(
        "--labels", type=Path, help="label PNGs with the images' stems, to score (optional)"
    )
    parser.add_argument("--ignore-label", type=int, help="number in the labels that means none")
    parser.add_argument("--profile", help="models.profile of the params.yaml that rules the run")
    parser.add_argument(
        "--workspace", type=Path, help="where outputs go; default . or runs/<folder>"
    )
    parser.add_argument(
        "--reset-params", action="store_true", help="begin with this folder's params.yaml again"
    )


def add_archive_options(parser: argparse.ArgumentParser) -> None:
    """What `fmbseg download` and `make benchmarks` take."""
    parser.add_argument("--zips", type=Path, help="folder of archives you have already")
    parser.add_argument(
        "--mirror", action="append", default=[], metavar="URL",
        help="address of a folder with the archives under their own names, tried first",
    )  # fmt: skip


def _add_params(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--params", type=Path, help="default: params.yaml, or the defaults where there is none"
    )


def _add_download(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", nargs="*", metavar="NAME", help="data sets; see --list")
    parser.add_argument("--root", type=Path, help="default: data.benchmarks of params.yaml")
    _add_params(parser)
    parser.add_argument("--split", nargs="+", default=["val"], help="default: val")
    parser.add_argument("--list", action="store_true", help="sizes, terms, what is present")
    parser.add_argument(
        "--keep-archives", action="store_true", help="do not delete them at the end"
    )
    add_archive_options(parser)
    parser.add_argument(
        "--weights", choices=("miniature", "base", "paper"), help="fetch this profile's models too"
    )


def _add_estimate(parser: argparse.ArgumentParser) -> None:
    _add_params(parser)
    parser.add_argument(
        "--images", metavar="N|NAME|FOLDER",
        help="so many images, a public data set (see download), or a folder, with --classes",
    )  # fmt: skip
    parser.add_argument("--classes", type=Path, help="text file, one class a line")
    parser.add_argument("--profile", choices=("miniature", "base", "paper"))
    parser.add_argument("--workers", type=int, help="default: runner.workers")
    parser.add_argument("--sample", type=int, default=4, help="images to measure at most")
    parser.add_argument("--budget-seconds", type=float, default=120.0, help="for measuring, about")
    parser.add_argument("--root", type=Path, help="default: data.benchmarks of params.yaml")


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", nargs="?", type=Path, default=Path("models/train"),
        help="trained folder, or models:/<name>@<alias>; default models/train",
    )  # fmt: skip
    parser.add_argument(
        "--classes", metavar="NAMES",
        help="names or a class file, for requests that name none; default: those of the training",
    )  # fmt: skip
    parser.add_argument("--port", type=int, default=8321, help="default 8321; 0: any free one")
    parser.add_argument("--host", default="127.0.0.1", help="default 127.0.0.1, this machine alone")
    parser.add_argument("--max-megabytes", type=float, help="of a picture as sent; default 32")
    parser.add_argument("--max-megapixels", type=float, help="of a picture; default 32")
    parser.add_argument("--max-classes", type=int, help="with the background; default 255")
    parser.add_argument(
        "--at-once", type=int, metavar="N", help="requests read, waiting or computed; default 16"
    )
    parser.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="to send, and to answer; default 60"
    )
    add_model_options(parser)


def _add_review(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workspace", type=Path, default=Path(), help="a run's folder; default .")
    parser.add_argument("--port", type=int, help="default: that of the last time, or a free one")
    parser.add_argument("--by", metavar="NAME", help="who reviews; default: the user's name")
    parser.add_argument(
        "--open", action=argparse.BooleanOptionalAction,
        help="open a browser; default: where there is a screen",
    )  # fmt: skip


def _add_miniature(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True)
    draw = actions.add_parser("draw", help="write images and labels of the world")
    draw.add_argument("out", type=Path)
    draw.add_argument("--count", type=int, default=16)
    draw.add_argument("--seed", type=int, default=0)
    draw.add_argument("--look", choices=("day", "night", "fog", "palette"), default="day")


if __name__ == "__main__":
    sys.exit(main())
