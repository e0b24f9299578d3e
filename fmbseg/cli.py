"""The console script `fmbseg`: predict, doctor, evaluate, miniature."""

import argparse
import sys
from importlib.metadata import version
from pathlib import Path

from fmbseg.params import ParamsError


def main(argv: list[str] | None = None) -> int:
    """Run one sub-command; returns the exit code (2 for a user's mistake)."""
    parser = argparse.ArgumentParser(prog="fmbseg", description=__doc__)
    parser.add_argument("--version", action="version", version=f"fmbseg {version('fmbseg')}")
    commands = parser.add_subparsers(dest="command", required=True)

    predict = commands.add_parser("predict", help="label maps and overlays for images")
    predict.add_argument("images", nargs="+", type=Path, help="image files or folders")
    predict.add_argument("--classes", required=True, help='"cat, grass" or a class file')
    predict.add_argument("--model", type=Path, default=Path("models/train"), help="trained folder")
    predict.add_argument("--out", type=Path, default=Path("predictions"))
    predict.add_argument("--device", default="auto")

    doctor = commands.add_parser("doctor", help="versions, device, weights, disk, offline state")
    doctor.add_argument("--params", type=Path, default=Path("params.yaml"))

    miniature = commands.add_parser("miniature", help="the shipped small world and its models")
    actions = miniature.add_subparsers(dest="action", required=True)
    train = actions.add_parser("train", help="train one of the three small foundation models")
    train.add_argument("model", choices=("clip", "sam", "vision"))
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--steps", type=int, help="default: the recipe's")
    train.add_argument("--folder", type=Path, help="checkpoints; default work/train/<model>")
    train.add_argument("--weights", type=Path, help="export folder; default work/weights/<model>")
    draw = actions.add_parser("draw", help="write images and labels of the world")
    draw.add_argument("out", type=Path)
    draw.add_argument("--count", type=int, default=16)
    draw.add_argument("--seed", type=int, default=0)
    draw.add_argument("--look", choices=("day", "night", "fog", "palette"), default="day")

    arguments = parser.parse_args(argv)
    from fmbseg import commands as run

    try:
        return {
            "predict": run.predict,
            "doctor": run.doctor,
            "miniature": run.miniature,
        }[arguments.command](arguments)
    except (ParamsError, run.UserError) as error:
        print(f"fmbseg {arguments.command}: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
