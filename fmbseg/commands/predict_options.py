"""Options of `fmbseg predict`, and those of every command that loads a trained model."""

import argparse
from pathlib import Path


def add_predict(parser: argparse.ArgumentParser) -> None:
    """What `fmbseg predict` takes."""
    parser.add_argument(
        "images", nargs="+", type=Path,
        help="image files, folders (any depth) or patterns in quotes: 'photos/**/*.jpg'",
    )  # fmt: skip
    parser.add_argument(
        "--classes", required=True, help='"cat=kitten, grass" (= before synonyms), or a class file'
    )
    parser.add_argument(
        "--background", metavar="NAMES", help="names or a class file; where one wins, no class does"
    )
    parser.add_argument(
        "--min-similarity", type=float, metavar="COSINE",
        help="a pixel whose best class is below is none of them; docs/predict.md helps to choose",
    )  # fmt: skip
    parser.add_argument(
        "--refine", choices=("none", "fast"), default="none",
        help="fast: borders move to the image's edges, without another model; default: none",
    )  # fmt: skip
    parser.add_argument(
        "--similarities", choices=("png", "npz"),
        help="png: the best class's cosine, 16 bits; npz: every class's",
    )  # fmt: skip
    parser.add_argument(
        "--confidence", action="store_true", help="the winner's share of the softmax, 16-bit PNG"
    )
    parser.add_argument(
        "--model", type=Path, default=Path("models/train"),
        help="trained folder, or models:/<name>@<alias>; default: models/train",
    )  # fmt: skip
    parser.add_argument(
        "--out", type=Path, default=Path("predictions"), help="default: predictions/"
    )
    parser.add_argument(
        "--again", action="store_true", help="also the images that a call before this one made"
    )
    add_model_options(parser)


def add_adapt(parser: argparse.ArgumentParser) -> None:
    """What `fmbseg adapt` takes."""
    parser.add_argument("images", type=Path, help="folder of images (any depth), no labels needed")
    parser.add_argument(
        "--classes", required=True, help='"cat=kitten, grass" (= before synonyms), or a class file'
    )
    parser.add_argument(
        "--model", type=Path, default=Path("models/train"), help="trained folder to start from"
    )
    parser.add_argument(
        "--workspace", type=Path, help="where work goes; default runs/<folder>-adapted"
    )
    parser.add_argument("--epochs", type=int, default=20, help="over the images; default: 20")
    parser.add_argument("--learning-rate", type=float, default=0.03, help="its peak; default: 0.03")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """On what device a trained model runs, and what it may open."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps")
    parser.add_argument(
        "--precision", default="auto", choices=("auto", "float32", "bfloat16", "float16"),
        help="of the encoders; auto: float32 on a processor, bfloat16 or else float16 on CUDA",
    )  # fmt: skip
    parser.add_argument(
        "--trust-paths", action="store_true",
        help="open the models outside the trained folder that its segmenter.json names",
    )  # fmt: skip
