"""Options of `fmbseg export-model` and `fmbseg export-words`."""

import argparse
from pathlib import Path

_CLASSES = '"cat=kitten, grass" (= before synonyms), or a class file'
_OR = "; or models:/<name>@<alias> of MLflow's registry, hf-hub:owner/name of a hub"


def add_export_model(parser: argparse.ArgumentParser) -> None:
    """What `fmbseg export-model` takes."""
    parser.add_argument("folder", help=f"trained folder, such as models/train{_OR}")
    parser.add_argument("--classes", required=True, help=_CLASSES)
    parser.add_argument(
        "--out", type=Path, default=Path("exports/onnx"),
        help="folder, or a file NAME.onnx, whose folder is then NAME; default: exports/onnx",
    )  # fmt: skip
    parser.add_argument(
        "--open", action="store_true",
        help="leave the words to a file beside the model (words.npz); export-words writes others",
    )  # fmt: skip
    parser.add_argument(
        "--window", type=int, metavar="PX",
        help="the graph takes squares of this side only, images go through in overlapping ones; "
        "default: any size",
    )  # fmt: skip
    parser.add_argument(
        "--standard", action="store_true",
        help="operators of the ONNX standard alone (opset 23), no loops; default: attention is "
        "onnxruntime's own, and patches go through in chunks, which is faster",
    )  # fmt: skip
    parser.add_argument(
        "--precision", choices=("float32", "float16", "int8"), default="float32",
        help="of the encoder, int8 of the head too; default: float32",
    )  # fmt: skip
    parser.add_argument(
        "--calibrate", metavar="FOLDER",
        help="int8: measure the activations' ranges once, on up to 64 of these images",
    )  # fmt: skip
    parser.add_argument(
        "--measure", metavar="FOLDER",
        help="mIoU and speed beside torch's on FOLDER/images with FOLDER/labels/<stem>.png, whose "
        "numbers are indices into the classes",
    )  # fmt: skip


def add_export_words(parser: argparse.ArgumentParser) -> None:
    """What `fmbseg export-words` takes."""
    parser.add_argument("folder", help=f"trained folder that the model was exported from{_OR}")
    parser.add_argument("--classes", required=True, help=_CLASSES)
    parser.add_argument("--out", type=Path, default=Path("words.npz"), help="default: words.npz")
