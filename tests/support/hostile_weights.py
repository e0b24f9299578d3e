"""Weight files that try to run code; the code they try to run writes an empty file."""

import io
import os
import pickle
import zipfile
from pathlib import Path


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self):
        return os.mknod, (str(self.canary),)


def plain_pickle(path: Path, canary: Path) -> None:
    """A pickle as torch wrote checkpoints before version 1.6, or whatever calls itself one."""
    path.write_bytes(pickle.dumps(Touch(canary), protocol=2))


def pickle_and_zip(path: Path, canary: Path) -> None:
    """A pickle with a TorchScript archive appended, which zipfile takes for an archive."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/constants.pkl", b"")
    path.write_bytes(pickle.dumps(Touch(canary), protocol=2) + buffer.getvalue())


def torch_zip(path: Path, canary: Path) -> None:
    """A checkpoint as torch writes it, with an object inside."""
    _zip(path, canary, ())


def nested_constants(path: Path, canary: Path) -> None:
    """The same with x/constants.pkl, which is no TorchScript to torch."""
    _zip(path, canary, ("archive/x/constants.pkl",))


def torchscript(path: Path, canary: Path) -> None:
    """The same as TorchScript."""
    _zip(path, canary, ("archive/constants.pkl",))


def _zip(path: Path, canary: Path, more: tuple[str, ...]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Touch(canary), protocol=2))
        for name in (*more, "archive/version"):
            archive.writestr(name, b"3\n")


ATTACKS = (plain_pickle, pickle_and_zip, torch_zip, nested_constants, torchscript)
