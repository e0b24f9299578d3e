"""`fmbseg init` writes a project from the checkout's files; `fmbseg run` needs no checkout."""

import ast
import contextlib
import importlib.metadata
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from fmbseg.cli import main
from fmbseg.commands import run as command
from fmbseg.miniature.world import generate
from fmbseg.project_files import packed_files
from tests.conftest import REPOSITORY

TARGETS = ("run", "server", "serve", "benchmarks", "mlflow", "clean", "clean-all")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("a place") / "my project"
    assert main(["init", str(folder)]) == 0
    return folder


def test_flows_tasks_and_parameters_of_a_project_are_the_checkouts_own(project: Path):
    names = packed_files(REPOSITORY)
    for folder in ("flows", "tasks"):
        python = sorted((REPOSITORY / folder).rglob("*.py"))
        assert {path.relative_to(REPOSITORY).as_posix() for path in python} <= set(names)
    for name in set(names) - {"Makefile", "dvc.yaml"}:
        assert (project / name).read_bytes() == (REPOSITORY / name).read_bytes(), name


def test_the_stages_of_a_project_depend_on_the_version_of_the_library(project: Path):
    wanted = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())
    for entry in wanted["stages"].values():
        stage = entry.get("do", entry)
        stage["deps"] = ["requirements.txt" if dep == "fmbseg" else dep for dep in stage["deps"]]
    assert yaml.safe_load((project / "dvc.yaml").read_text()) == wanted
    version = importlib.metadata.version("fmbseg")
    assert (project / "requirements.txt").read_text() == f"fmbseg[pipeline]=={version}\n"


def test_make_in_a_project_uses_the_python_that_fmbseg_is_installed_in(project: Path):
    def make(*arguments: str) -> str:
        done = subprocess.run(
            ["make", *arguments], cwd=project, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    listed = make()
    assert all(re.search(rf"^{target} ", listed, re.MULTILINE) for target in TARGETS)
    for target in TARGETS:
        make("--dry-run", target)
    assert f"{Path(sys.executable).parent}/python -m flows.run" in make("--dry-run", "run")
    assert "elsewhere/bin/python -m flows.run" in make("--dry-run", "run", "BIN=elsewhere/bin")
    done = subprocess.run(
        ["make", "run", "BIN=nowhere"], cwd=project, capture_output=True, text=True, check=False
    )
    assert done.returncode
    assert "no Python in nowhere; install requirements.txt" in done.stdout


def test_a_project_is_a_git_repository_unless_it_lies_in_one(project: Path, tmp_path: Path):
    assert (project / ".git").is_dir()
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    (tmp_path / ".gitignore").write_text("/ignored/\n")
    for name, made in (("inside", False), ("ignored", True)):
        assert main(["init", str(tmp_path / name)]) == 0
        assert (tmp_path / name / ".git").is_dir() == made


def test_init_changes_no_file_that_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "params.yaml").write_text("seed: 3\n")
    assert main(["init", str(tmp_path)]) == 2
    assert "params.yaml is there already; wanted a new folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["params.yaml"]
    (tmp_path / "params.yaml").write_bytes((REPOSITORY / "params.yaml").read_bytes())
    assert main(["init", str(tmp_path)]) == 0, "as after a first call that was killed"
    assert main(["init", str(tmp_path)]) == 0


@pytest.fixture
def not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """An empty current folder; the workspaces whose steps would have been run."""
    asked: list[Path] = []

    def stopped(root: Path, **_: object) -> None:
        asked.append(root)
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "run_plan", stopped)
    monkeypatch.chdir(tmp_path)
    return asked


@pytest.mark.weights
def test_run_in_an_empty_folder_takes_the_installed_defaults(
    not_run: list[Path], capsys: pytest.CaptureFixture[str]
):
    assert main(["run"]) == 130
    assert not_run == [Path()]
    assert yaml.safe_load(Path("params.yaml").read_text()) == yaml.safe_load(
        (REPOSITORY / "params.yaml").read_text()
    )
    out, error = capsys.readouterr()
    assert out.startswith("==> params.yaml rules this run (models.profile: miniature)\n")
    assert error.strip() == "fmbseg run: stopped; what is finished stays"
    Path("params.yaml").write_text(Path("params.yaml").read_text().replace("seed: 0", "seed: 4"))
    assert main(["run", "--workspace", "other"]) == 130
    assert yaml.safe_load(Path("other/params.yaml").read_text())["seed"] == 4, "this folder's, now"


@pytest.mark.weights
def test_run_on_images_of_ones_own_makes_a_workspace_below_runs(not_run: list[Path]):
    from PIL import Image

    Path("photos").mkdir()
    for item in generate(0, 2, "train"):
        Image.fromarray(item.image).save(f"photos/{item.name}.png")
    Path("classes.txt").write_text("sky\ngrass\n")
    assert main(["run", "--images", "photos", "--classes", "classes.txt"]) == 130
    assert not_run == [Path("runs/photos")]
    assert not Path("params.yaml").exists()
    data = yaml.safe_load(Path("runs/photos/params.yaml").read_text())["data"]
    assert (data["images"], data["classes"]) == ("photos", "classes.txt")


def test_a_mistake_in_run_is_one_line(not_run: list[Path], capsys: pytest.CaptureFixture[str]):
    for arguments, words in (
        (["--images", "nowhere"], "--images needs --classes"),
        (["--images", "nowhere", "--classes", "c"], "no folder nowhere"),
        (["--profile", "base"], "fmbseg download --weights base"),
    ):
        assert main(["run", *arguments]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
    assert not_run == []


@pytest.mark.weights
def test_run_prints_the_figures_and_where_everything_lies(
    small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):  # fmt: skip
    shutil.copytree(small_run, tmp_path / "here")
    shutil.rmtree(tmp_path / "here" / "reports" / "report")
    monkeypatch.chdir(tmp_path / "here")
    assert main(["run", "--json"]) == 0
    document, out = capsys.readouterr()
    assert json.loads(document)["report"] == "reports/report/index.html"
    assert 0 < json.loads(document)["figures"]["miou"]["fmbseg-miniature"] < 1
    assert re.search(r"^report: \d+ s$", out, re.MULTILINE), "what was computed, and nothing else"
    assert "train:" not in out
    assert "| `fmbseg` | miniature |" in out
    assert "reports/report/index.html" in out
    assert "predict data/download/miniature/test/images" in out
    assert "run --images path/to/images --classes path/to/classes.txt" in out


def test_without_a_params_file_commands_take_the_defaults(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    assert main(["download", "--list", "voc21"]) == 0
    assert "below data/benchmarks" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("folders", "extras"), [(("fmbseg",), ()), (("flows", "tasks"), ("pipeline",))]
)
def test_code_imports_what_its_installation_brings(
    folders: tuple[str, ...], extras: tuple[str, ...]
):
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    to_do = list(project["dependencies"])
    for extra in extras:
        to_do += project["optional-dependencies"][extra]
    brought = set[str]()
    while to_do:
        name = re.split(r"[^\w.-]", to_do.pop(), maxsplit=1)[0]
        if normal(name) not in brought:
            brought.add(normal(name))
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                needed = importlib.metadata.requires(name) or []
                to_do += [one for one in needed if "extra ==" not in one]
    home = importlib.metadata.packages_distributions()
    known = {*sys.stdlib_module_names, "fmbseg", *folders}
    # extras of their own; one line says what is missing
    known |= {"transformers", "prefect_dask", "onnx", "onnxruntime"}
    for path in sorted(path for one in folders for path in (REPOSITORY / one).rglob("*.py")):
        for name in imported(path) - known:
            packages = {normal(one) for one in home.get(name, ())}
            assert packages & brought, f"{path}: {name} comes from {packages or 'no package'}"


def imported(path: Path) -> set[str]:
    """Top-level names of the modules that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(str(node.module).partition(".")[0])
    return found


def normal(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()
