"""Options of the commands that hand labels out and take them back: label, preview, ..."""

import argparse
from pathlib import Path
from typing import get_args

from fmbseg.export.settings import FormatName, Imported, Source


def add_label(parser: argparse.ArgumentParser) -> None:
    """What `fmbseg label` takes."""
    parser.add_argument("images", type=Path, help="folder of images (any depth)")
    parser.add_argument(
        "--classes", required=True, help='"cat=kitten, grass" (= before synonyms), or a class file'
    )
    parser.add_argument("--out", type=Path, default=Path("labels"), help="default: labels/")
    parser.add_argument("--format", choices=get_args(FormatName), default="coco")
    parser.add_argument(
        "--method", choices=("stage1", "fmbseg"), default="stage1",
        help="stage1: CLIP and SAM, no training; fmbseg: trains first, or takes --model",
    )  # fmt: skip
    parser.add_argument("--profile", help="models.profile: miniature, base or paper")
    parser.add_argument("--workspace", type=Path, help="where masks go; default runs/<folder>")
    _add_export_settings(parser)
    parser.set_defaults(source=None)


def add_preview(parser: argparse.ArgumentParser) -> None:
    """What `fmbseg preview` takes."""
    parser.add_argument("images", type=Path, help="folder of images (any depth)")
    parser.add_argument(
        "--classes", required=True, help='"cat=kitten, grass" (= before synonyms), or a class file'
    )
    parser.add_argument("--n", type=int, default=20, help="images to look at; default: 20")
    parser.add_argument("--profile", help="models.profile: miniature, base or paper")
    parser.add_argument(
        "--watch", action="store_true", help="make the page anew whenever the class file changes"
    )
    parser.add_argument("--out", type=Path, default=Path("preview"), help="default: preview/")


def add_export(parser: argparse.ArgumentParser) -> None:
    """What `fmbseg export` takes."""
    parser.add_argument("--workspace", type=Path, default=Path(), help="a run's folder; default .")
    parser.add_argument("--out", type=Path, help="default: exports/<format> in the workspace")
    parser.add_argument(
        "--format", choices=get_args(FormatName), action="append", help="may be given repeatedly"
    )
    parser.add_argument(
        "--source", choices=get_args(Source), help="whose labels; default: export.source"
    )
    _add_export_settings(parser)


def add_import(parser: argparse.ArgumentParser) -> None:
    """What `fmbseg import` takes."""
    parser.add_argument("path", type=Path, help="folder or file that the tool wrote")
    parser.add_argument("--format", choices=get_args(Imported), required=True)
    parser.add_argument("--workspace", type=Path, default=Path(), help="a run's folder; default .")
    parser.add_argument(
        "--export", type=Path, help="what was edited; default: PATH, or exports/<format>"
    )
    parser.add_argument("--by", metavar="NAME", help="who edited; default: your login name")
    parser.add_argument(
        "--accept", choices=("changed", "all", "none"), default="changed",
        help="images that become accepted corrections; none: changed ones become drafts",
    )  # fmt: skip
    parser.add_argument(
        "--on-conflict", choices=("skip", "overwrite"), default="skip",
        help="images that were corrected elsewhere since the export; default: skip",
    )  # fmt: skip
    parser.add_argument(
        "--skip-refused", action="store_true", help="import the others if images are refused"
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done")


def _add_export_settings(parser: argparse.ArgumentParser) -> None:
    """What both ways of exporting take in place of the section `export` of params.yaml."""
    parser.add_argument("--model", help="trained folder whose predictions are exported")
    parser.add_argument("--val-fraction", type=float, help="share of the images for the split val")
    parser.add_argument("--val-list", help="or a file that names the images of val")
    parser.add_argument("--min-confidence", type=float, help="leave less sure regions out")
    parser.add_argument("--min-area", type=float, help="leave smaller ones out: of the image")
    parser.add_argument(
        "--keep", action="append", metavar="CLASS",
        help="classes to export; vehicle=car=bus for several as one; may be given repeatedly",
    )  # fmt: skip
    parser.add_argument("--unlabelled", help="class of pixels without a label; none: they stay so")
    parser.add_argument(
        "--place", choices=("copy", "link", "leave"), help="what becomes of the image files"
    )
    parser.add_argument("--tolerance", type=float, help="of polygons, px")
    parser.add_argument(
        "--no-corrections", dest="corrections", action="store_const", const=False,
        help="the source's own labels even of images that people put right",
    )  # fmt: skip
