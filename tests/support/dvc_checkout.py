"""A clone of the checkout with a small params.yaml, as the tests of DVC use it."""

import contextlib
import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from prefect import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId

from fmbseg.steps.workspace import Workspace
from fmbseg.types import Image
from tests.conftest import REPOSITORY, SMALL
from tests.support import checkouts
from tests.support.shared_folder import shared_folder

_UNCACHED = ("version", "track", "summarise", "register")
"""Tasks that make no unit."""


@dataclass(frozen=True)
class Checkout:
    """A Git and DVC repository that commands run in, with its own fmbseg on the path."""

    root: Path

    @property
    def environment(self) -> dict[str, str]:
        """Of every command: this copy's code, the running interpreter as `python`."""
        return checkouts.environment(self.root, self.root.parent) | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PREFECT_LOGGING_LEVEL": "WARNING",
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
        }

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a command without waiting, in a process group of its own."""
        return subprocess.Popen(
            command, cwd=self.root, env=self.environment, text=True, start_new_session=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, *command: str) -> str:
        """What a command prints; it must succeed."""
        done = subprocess.run(
            command, cwd=self.root, env=self.environment, text=True, check=False,
            capture_output=True,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}: {done.stdout}\n{done.stderr}"
        return done.stdout

    def dvc(self, *arguments: str) -> str:
        """`dvc ...`."""
        return self.run(sys.executable, "-m", "dvc", *arguments)

    def git(self, *arguments: str) -> str:
        """`git ...`."""
        who = ("-c", "user.name=User", "-c", "user.email=user@example.org")
        return self.run("git", *who, *arguments)

    def flow(self) -> dict[str, str]:
        """Run the flow in this process, on the fixture `prefect_server`.

        Returns:
            Name of each unit's task run to the name of its state.
        """
        from flows.pipeline import fmbseg

        with contextlib.chdir(self.root):
            fmbseg(".")
        with get_client(sync_client=True) as client:
            newest = client.read_flow_runs(sort="START_TIME_DESC", limit=1)[0]
            runs = client.read_task_runs(
                flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=[newest.id]))
            )
        return {run.name: str(run.state.name) for run in runs if not run.name.startswith(_UNCACHED)}

    def computed(self) -> list[str]:
        """Folders of the units computed here so far, with repetitions, sorted."""
        return sorted(checkouts.computed_units(self.root))

    def workspace(self) -> Workspace:
        """Paths and parameters as they stand now."""
        return Workspace.open(self.root)

    def change(self, **sections: dict[str, Any]) -> None:
        """Lay keys over sections of params.yaml."""
        checkouts.set_params(self.root, sections)

    def status(self) -> set[str]:
        """The stages that `dvc status` calls changed."""
        return set(json.loads(self.dvc("status", "--json")))

    def copy(self, root: Path) -> "Checkout":
        """The same folder elsewhere."""
        shutil.copytree(self.root, root, symlinks=True)
        return Checkout(root)


def checkout(root: Path) -> Checkout:
    """The files Git knows, committed, with a small params.yaml; nothing was run yet.

    A dvc.lock that runs in the checkout itself left is not among them.
    """
    if not (REPOSITORY / ".git").exists():
        pytest.skip("not a Git checkout")
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, names):
        if name != "dvc.lock" and (REPOSITORY / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPOSITORY / name, root / name)
    made = Checkout(root)
    made.change(**SMALL, tracking={"uri": f"sqlite:///{root.parent}/mlflow.db"})
    made.git("init", "--quiet", "--initial-branch=main", ".")
    made.git("add", "--all")
    made.git("commit", "--quiet", "--message=start")
    return made


def finished(factory: pytest.TempPathFactory) -> Checkout:
    """A checkout after `dvc repro` from nothing, dvc.lock committed; copy it to change it."""

    def make(folder: Path) -> None:
        made = checkout(folder / "code")
        made.dvc("repro")
        made.git("add", "dvc.lock")
        made.git("commit", "--quiet", "--message=run")

    return Checkout(shared_folder(factory, "dvc", make) / "code")


@contextlib.contextmanager
def hold_lock(one: Checkout, seconds: float) -> Iterator[None]:
    """Hold DVC's lock on a repository, as a command at work does; let go after `seconds`."""
    with (one.root / ".dvc" / "tmp" / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        timer = threading.Timer(seconds, fcntl.flock, (lock, fcntl.LOCK_UN))
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()


def save_images(folder: Path, images: Iterable[Image]) -> None:
    """Write images as numbered PNGs."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, image in enumerate(images):
        PIL.Image.fromarray(image).save(folder / f"{index:03d}.png")
