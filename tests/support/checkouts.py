"""What tests of the whole system share: a copy of the checkout, its commands, what they leave."""

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from fmbseg.steps.plan import PLAN
from fmbseg.store.journal import Journal
from tests.conftest import REPOSITORY, SMALL

STEPS = tuple(step.name for step in PLAN)
UNITS = tuple(step.writes for step in PLAN)
"""Folders that hold the steps' outputs."""
QUICK: dict[str, dict[str, Any]] = {
    **SMALL,
    "train": {"epochs": 4, "save_every_seconds": 0.0},
    "export": {"formats": ["coco"]},
}
"""Small, with enough epochs that a training can be cut between two checkpoints."""
_COPIED = ("fmbseg", "flows", "tasks", "params.yaml", "pyproject.toml", "dvc.yaml", ".dvcignore",
           ".gitignore", "data/drops/README.md", "data/corrections/README.md")  # fmt: skip
_MARK = "FMBSEG_SYSTEM_TEST"


@dataclass(frozen=True)
class Finished:
    """A command that has ended: its exit code, what it printed, its processor seconds."""

    code: int
    out: str
    error: str


@dataclass(frozen=True)
class Started:
    """A command under way, in a process group of its own."""

    process: subprocess.Popen[bytes]
    mark: str
    logs: tuple[Path, Path]

    def send(self, number: signal.Signals) -> None:
        """Signal the whole process group, as a terminal does."""
        os.killpg(self.process.pid, number)

    def wait(self, seconds: float = 300) -> Finished:
        """Wait for its end; afterwards nothing that it started may run any more."""
        code = self.process.wait(seconds)
        deadline = time.monotonic() + 10
        while left := processes_with(self.mark):
            assert time.monotonic() < deadline, f"left behind: {left}"
            time.sleep(0.05)
        return Finished(code, *(log.read_text(errors="replace") for log in self.logs))


@dataclass(frozen=True)
class Checkout:
    """A copy of the checkout with its own Prefect and DVC folders and without a server.

    Attributes:
        root: the copy, where commands run.
        environment: all variables of the commands.
        logs: for what they print.
        prefix: of the commands.
    """

    root: Path
    environment: Mapping[str, str]
    logs: Path
    prefix: tuple[str, ...] = ()

    @contextlib.contextmanager
    def started(self, *arguments: str) -> Iterator[Started]:
        """Run `python <arguments>` in the copy; killed with its children when the block ends."""
        stem = self.logs / str(time.time_ns())
        logs, mark = (stem.with_suffix(".out"), stem.with_suffix(".err")), f"{_MARK}={stem}"
        with logs[0].open("wb") as out, logs[1].open("wb") as error:
            process = subprocess.Popen(
                [*self.prefix, "env", f"--chdir={self.root}", sys.executable, *arguments],
                env={**self.environment, _MARK: str(stem)},
                stdin=subprocess.DEVNULL, stdout=out, stderr=error, start_new_session=True,
            )  # fmt: skip
        try:
            yield Started(process, mark, logs)
        finally:
            for left in processes_with(mark):
                os.kill(left, signal.SIGKILL)
            process.wait()

    def run(self, *arguments: str, seconds: float = 300) -> Finished:
        """Run `python <arguments>` in the copy to its end."""
        with self.started(*arguments) as started:
            return started.wait(seconds)

    def flow(self, *arguments: str) -> Finished:
        """`make run`, which has to succeed."""
        done = self.run("-m", "flows.run", *arguments)
        assert done.code == 0, done.error[-3000:]
        return done


def checkout(root: Path, outside: Path, sections: Mapping[str, Mapping[str, Any]]) -> Checkout:
    """Copy the checkout.

    Args:
        root: where to; must not exist.
        outside: for what lies outside a checkout: Prefect's home, DVC's site cache, logs.
        sections: changes to params.yaml.
    """
    for name in _COPIED:
        source, target = REPOSITORY / name, root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copyfile(source, target)
    (root / ".dvc").mkdir()
    shutil.copyfile(REPOSITORY / ".dvc" / "config", root / ".dvc" / "config")
    with TemporaryDirectory() as made:  # git follows /proc/<pid>/root/... out of its namespace
        subprocess.run(["git", "init", "--quiet", made], check=True)
        shutil.copytree(Path(made) / ".git", root / ".git")
    set_params(root, sections)
    (outside / "logs").mkdir(parents=True, exist_ok=True)
    return Checkout(root, environment(root, outside), outside / "logs")


def environment(root: Path, outside: Path) -> dict[str, str]:
    """Variables for commands in a copy; no Prefect server answers at the address they hold."""
    return {
        **{k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "FMBSEG_"))},
        "PYTHONPATH": str(root), "PREFECT_HOME": str(outside / "prefect"),
        "PREFECT_API_URL": "http://127.0.0.1:9/api", "DVC_SITE_CACHE_DIR": str(outside / "dvc"),
        "DVC_NO_ANALYTICS": "true",
    }  # fmt: skip


def set_params(root: Path, sections: Mapping[str, Mapping[str, Any]]) -> None:
    """Change sections of a workspace's params.yaml, which is the repository's at first."""
    path = root / "params.yaml"
    text = (path if path.exists() else REPOSITORY / "params.yaml").read_text()
    params = yaml.safe_load(text)
    for section, values in sections.items():
        params[section] |= values
    path.write_text(yaml.safe_dump(params))


def processes_with(mark: str) -> list[int]:
    """Ids of the living processes whose environment holds a `NAME=value`, as children inherit it.

    Processes that have ended but were not waited for have no environment any more.
    """
    found = []
    for file in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark.encode() in file.read_bytes().split(b"\0"):
                found.append(int(file.parent.name))
    return found


def outputs(root: Path) -> dict[str, bytes]:
    """Every file of the steps' outputs, with measured times taken out.

    What is allowed to differ between two runs is the time that things took, and nothing else:
    `seconds_per_image` of a method and where the report shows it, timing.json of the training,
    and the hashes of exactly these files in their manifests.
    """
    found: dict[str, bytes] = {}
    for unit in UNITS:
        for path in sorted((root / unit).rglob("*")):
            name = path.relative_to(root).as_posix()
            assert ".partial-" not in name, f"left behind: {name}"
            if path.is_file() and path.suffix != ".lock":
                found[name] = _without_times(root, name, path.read_bytes())
    return found


def _without_times(root: Path, name: str, content: bytes) -> bytes:
    if re.fullmatch(r"reports/evaluate/[^/]+/metrics\.json", name):
        return json.dumps(json.loads(content) | {"seconds_per_image": None}).encode()
    if name == "models/train/timing.json":
        return json.dumps(sorted(json.loads(content))).encode()
    if name == "reports/report/index.html":
        text = content.decode()
        for path in (root / "reports" / "evaluate").glob("*/metrics.json"):
            seconds = json.loads(path.read_bytes()).get("seconds_per_image")
            shown = seconds is None or f'seconds">{seconds:.3f}<' in text
            assert shown, f"{path}: its seconds are not in the report"
        text = re.sub(r'(class="(?:number )?seconds">)[^<]*<', r"\1<", text)
        return text.encode()
    timed = re.fullmatch(
        r"(reports/evaluate/[^/]+|models/train|reports/report)/manifest\.json", name
    )
    if timed:
        manifest = json.loads(content)
        for file in ("metrics.json", "timing.json", "index.html"):
            if file in manifest["files"] and (timed[1], file) != ("reports/report", "metrics.json"):
                manifest["files"][file] = None
        return json.dumps(manifest).encode()
    return content


def assert_same_outputs(root: Path, undisturbed: Path) -> None:
    """The outputs are those of the undisturbed run, byte for byte but for measured times."""
    found, wanted = outputs(root), outputs(undisturbed)
    missing, more = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
    assert not missing, f"missing: {missing}"
    assert not more, f"too many: {more}"
    different = [name for name in wanted if found[name] != wanted[name]]
    assert not different, f"different: {different}"


def computed_units(root: Path) -> list[str]:
    """The units in the journal, in order."""
    return [line["unit"] for line in Journal(root / ".scratch" / "journal.jsonl").lines()]


def assert_databases_are_whole(copy: Checkout) -> None:
    """SQLite finds no damage in MLflow's and Prefect's files, and MLflow's run is there once."""
    for path in (copy.root / "mlflow.db", Path(copy.environment["PREFECT_HOME"]) / "prefect.db"):
        with contextlib.closing(sqlite3.connect(path)) as database:
            assert database.execute("pragma integrity_check").fetchone() == ("ok",), path
    with contextlib.closing(sqlite3.connect(copy.root / "mlflow.db")) as database:
        states = database.execute(
            "select tags.value from runs join tags using (run_uuid) where tags.key = 'key.state' "
            "and runs.status = 'FINISHED' and runs.lifecycle_stage = 'active' and run_uuid not in "
            "(select run_uuid from tags where key = 'mlflow.parentRunId')"
        ).fetchall()
    assert len(states) == 1, f"finished MLflow runs of this state: {states}"
