"""`fmbseg serve` as a process of its own, which tests ask, stop and kill."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from tests.conftest import REPOSITORY


class Served:
    """A server that listens.

    Attributes:
        process: of the command.
        port: it listens on.
        address: of its page.
    """

    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self.process, self.port = process, port
        self.address = f"http://127.0.0.1:{port}/"


@contextmanager
def served(
    model: Path, empty: Path, *options: str, variables: Mapping[str, str] | None = None
) -> Iterator[Served]:
    """Start it on a free port; whatever became of it, it is gone when the block ends.

    Args:
        model: trained folder.
        empty: a folder; its working directory, and where its temporary files would go.
        options: of the command.
        variables: of its environment, beside ours.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "fmbseg.cli", "serve", str(model), "--port", "0", *options],
        cwd=empty, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={
            **os.environ, "PYTHONPATH": str(REPOSITORY), "TMPDIR": str(empty), **(variables or {})
        },
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        assert line, process.stderr.read()
        port = urlsplit(re.findall(r"http://\S+", line)[0]).port
        assert port is not None
        yield Served(process, port)
    finally:
        process.kill()
        process.communicate()


def left_behind(empty: Path) -> list[Path]:
    """What a server left in the folder that it was started in, and given for temporary files.

    As it is imported, torch makes an empty folder there for a compiler that is never used.
    """
    return [
        one for one in empty.rglob("*")
        if not (one.name.startswith("torchinductor_") and not list(one.iterdir()))
    ]  # fmt: skip
