"""`make wheel-check`: the package as a stranger has it, built, installed elsewhere and used.

The source distribution is built first and the wheel from it, so nothing of the checkout can be
missing unnoticed. The environment is a fresh one that sees this environment's other packages
through a .pth file; Python reads no .pth files there, so the checkout, which is installed by one,
is not found. Where the extra `pipeline` should not be needed, its packages cannot be imported.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import tomllib
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from fmbseg.project_files import packed_files

CHECKOUT = Path(__file__).resolve().parents[1]
SMALL = {
    "train_images: 600": "train_images: 8", "val_images: 100": "val_images: 2",
    "test_images: 150": "test_images: 3", "shard_images: 75": "shard_images: 4",
    "points_per_side: auto": "points_per_side: 6", "epochs: auto": "epochs: 1",
    "validation_images: 20": "validation_images: 0", "examples: 8": "examples: 1",
    "  - stage1\n": "",
}  # fmt: skip
"""Changes of params.yaml that make a run of seconds."""
_BLOCKER = '''"""With FMBSEG_WITHOUT set, the packages that it names cannot be imported."""
import os, sys
sys.modules.update(dict.fromkeys(os.environ.get("FMBSEG_WITHOUT", "").split()))
'''


def main() -> int:
    """Build, install, use; the first command that fails ends it."""
    with tempfile.TemporaryDirectory(prefix="fmbseg-wheel-") as folder:
        place = Path(folder)
        python = _installed(_built(place), place / "environment")
        with _environment(place, python) as variables:
            _check_library(python, place / "library", variables)
            _check_project(python, place / "project", variables)
    return 0


def _built(place: Path) -> Path:
    """The wheel, from the source distribution."""
    began = time.monotonic()
    build = f"import setuptools.build_meta as build; build.build_sdist({str(place)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=CHECKOUT, check=True, capture_output=True)
    (source,) = place.glob("fmbseg-*.tar.gz")
    _pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(place), str(source))
    (wheel,) = place.glob("fmbseg-*.whl")
    _say(f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB", began)
    return wheel


def _installed(wheel: Path, folder: Path) -> Path:
    """The Python of a new environment that holds the wheel; the checkout is not to be found."""
    began = time.monotonic()
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    _pip("--python", str(python), "install", "--no-deps", str(wheel))
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "others.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    (site / "sitecustomize.py").write_text(_BLOCKER)
    packed = site / "fmbseg" / "project"
    assert packed_files(packed) == packed_files(CHECKOUT), "the wheel lacks files of a project"
    for page in ("review", "serving"):
        files = [{path.name for path in (root / "fmbseg" / page / "page").iterdir()}
                 for root in (site, CHECKOUT)]  # fmt: skip
        assert files[0] == files[1], f"the wheel lacks files of the page of fmbseg/{page}"
    _say("installed", began)
    return python


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*command, *arguments], env=_without_paths(), check=True)


def _without_paths() -> dict[str, str]:
    """Variables that lead neither to the checkout nor to a Prefect server."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PREFECT_"))}


@contextmanager
def _environment(place: Path, python: Path) -> Iterator[dict[str, str]]:
    """Variables of the commands: nothing leads to the checkout, or to a server that is up."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    yield {
        **_without_paths(), "PATH": f"{python.parent}:{os.environ['PATH']}", "HF_HUB_OFFLINE": "1",
        "DVC_SITE_CACHE_DIR": str(place / "dvc"), "DVC_NO_ANALYTICS": "true", "DO_NOT_TRACK": "1",
        "PREFECT_HOME": str(place / "prefect"), "PREFECT_SERVER_API_PORT": str(port),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api", "TQDM_DISABLE": "1",
    }  # fmt: skip


def _check_library(python: Path, folder: Path, variables: Mapping[str, str]) -> None:
    """`pip install fmbseg` in an empty folder: every command, without the extra `pipeline`."""
    folder.mkdir()
    with (CHECKOUT / "pyproject.toml").open("rb") as file:
        extra = tomllib.load(file)["project"]["optional-dependencies"]["pipeline"]
    without = " ".join(re.split(r"[^\w]", one, maxsplit=1)[0] for one in extra)
    variables = {**variables, "FMBSEG_WITHOUT": without}

    def fmbseg(*arguments: str) -> str:
        return _run([str(python.parent / "fmbseg"), *arguments], folder, variables)

    found = _run([str(python), "-c", "import fmbseg; print(fmbseg.__file__)"], folder, variables)
    assert Path(found.strip()).is_relative_to(python.parents[1]), found
    assert "present" in fmbseg("doctor")
    assert "voc21" in fmbseg("download", "--list")
    assert "train" in fmbseg("estimate", "--budget-seconds", "5", "--sample", "1")
    fmbseg("miniature", "draw", "photos", "--count", "5")
    given = ["--images", "photos/images", "--classes", "photos/classes.txt"]
    said = fmbseg("run", *given, "--labels", "photos/labels")
    assert (folder / "runs/photos/reports/report/index.html").is_file(), said
    assert "| `fmbseg` |" in said, said
    fmbseg("predict", "photos/images", "--classes", "sky, grass", "--model",
           "runs/photos/models/train")  # fmt: skip
    assert len(list((folder / "predictions").glob("*.overlay.png"))) == 5


def _check_project(python: Path, folder: Path, variables: Mapping[str, str]) -> None:
    """`fmbseg init`, then `make run`, `dvc repro` and a run on request of a Prefect server."""
    _run([str(python.parent / "fmbseg"), "init", str(folder)], folder.parent, variables)
    params = folder / "params.yaml"
    text = params.read_text()
    for old, new in SMALL.items():
        assert old in text, old
        text = text.replace(old, new)
    params.write_text(text)
    homes = "import flows, tasks, fmbseg; print(flows.__file__, tasks.__file__, fmbseg.__file__)"
    *own, library = _run([str(python), "-c", homes], folder, variables).split()
    assert all(Path(file).is_relative_to(folder) for file in own), own
    assert Path(library).is_relative_to(python.parents[1]), library
    assert "| `fmbseg` |" in _run(["make", "run"], folder, variables)
    said = _run([str(python), "-m", "dvc", "repro"], folder, variables)
    assert "Data and pipelines are up to date" in said, said
    _run([str(python), "-m", "dvc", "metrics", "show"], folder, variables)
    url = variables["PREFECT_API_URL"]
    with (
        _started(["make", "server"], folder, variables),
        _answering(url),
        _started(["make", "serve"], folder, variables),
    ):
        _ask(python, folder, variables)


def _ask(python: Path, folder: Path, variables: Mapping[str, str]) -> None:
    """A run by the served deployment, as soon as that is there."""
    command = [str(python), "-m", "prefect", "deployment"]
    deadline = time.monotonic() + 120
    while "fmbseg/full" not in _run([*command, "ls"], folder, variables, quiet=True):
        assert time.monotonic() < deadline, "`make serve` made no deployment"
        time.sleep(1)
    said = _run([*command, "run", "fmbseg/full", "--watch"], folder, variables)
    assert "Completed" in said, said


@contextmanager
def _answering(url: str) -> Iterator[None]:
    deadline = time.monotonic() + 120
    while not _answers(url):
        assert time.monotonic() < deadline, "`make server` started no server"
        time.sleep(0.5)
    yield


def _answers(url: str) -> bool:
    with suppress(OSError):
        urllib.request.urlopen(f"{url}/health", timeout=1).close()
        return True
    return False


@contextmanager
def _started(command: list[str], folder: Path, variables: Mapping[str, str]) -> Iterator[None]:
    """A command with its children in the background; all are ended with the block."""
    with (folder.parent / f"{command[-1]}.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=variables, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield
    finally:
        os.killpg(process.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _run(
    command: list[str], folder: Path, variables: Mapping[str, str], *, quiet: bool = False
) -> str:
    """What a command prints; it has to succeed, and to print no trace."""
    began = time.monotonic()
    done = subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, text=True, check=False,
        stdin=subprocess.DEVNULL, timeout=600,
    )  # fmt: skip
    said = done.stdout + done.stderr
    if done.returncode or "Traceback" in said:
        for log in folder.parent.glob("*.log"):
            said += f"\n{log.name}:\n{log.read_text(errors='replace')[-2000:]}"
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{said[-8000:]}")
    if not quiet:
        shown = [Path(command[0]).name, *(arg for arg in command[1:] if "import " not in arg)]
        _say(" ".join(shown), began)
    return done.stdout


def _say(what: str, began: float) -> None:
    print(f"==> {what}   {time.monotonic() - began:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
