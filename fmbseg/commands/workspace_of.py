"""The workspace of a folder of images and class names that a command was given."""

import argparse
import shutil
import tempfile
from pathlib import Path

from tqdm import tqdm

from fmbseg.params_edit import write_params
from fmbseg.steps.choose_workspace import Asked, open_workspace
from fmbseg.vocabulary import Vocabulary


def workspace_of(arguments: argparse.Namespace, vocabulary: Vocabulary) -> Path:
    """The workspace of the images, with the class names in a file of its own."""
    with tempfile.TemporaryDirectory() as folder:
        typed = Path(folder) / "classes.txt"
        typed.write_text("".join(f"{line}\n" for line in vocabulary.lines()), encoding="utf-8")
        asked = Asked(
            images=arguments.images, classes=typed, profile=arguments.profile,
            workspace=arguments.workspace,
        )  # fmt: skip
        root = open_workspace(asked, tqdm.write)
        classes = root / "classes.txt"
        if not classes.is_file() or classes.read_bytes() != typed.read_bytes():
            shutil.copyfile(typed, classes)
    write_params(root / "params.yaml", {"data.classes": str(classes)})
    return root
