"""docs/benchmarks.md: its commands can be copied, its table agrees with the code."""

import re
import shutil
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

from flows import benchmarks
from fmbseg import load_params
from fmbseg.cli import _parser
from fmbseg.datasets.catalogue import CATALOGUE
from fmbseg.params_edit import write_params
from fmbseg.report.comparison import signed
from fmbseg.report.quoted import COLUMNS, PAPER
from fmbseg.steps.departures import departures
from fmbseg.steps.workspace import Workspace
from fmbseg.store import read_json
from tests.conftest import REPOSITORY
from tests.support import official_trees as trees
from tests.system.test_seven_columns import grow
from tests.unit.steps.test_steps import run_all

PAGE = (REPOSITORY / "docs/benchmarks.md").read_text()
BLOCKS = re.findall(r"^```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def rows() -> dict[str, list[str]]:
    """First cell of the table of columns to its other cells."""
    lines = [line for line in PAGE.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first: rest for first, *rest in cells if first in COLUMNS}


def dry_run(command: str, folder: Path) -> list[str]:
    """What a `make` command of the page would run."""
    done = subprocess.run(
        [*command.split(), "--dry-run", f"VENV={folder}"], cwd=REPOSITORY, text=True,
        capture_output=True, check=True,
    )  # fmt: skip
    return [line for line in done.stdout.splitlines() if "flows.benchmarks" in line]


def test_every_column_has_a_command_its_images_and_the_papers_number():
    assert tuple(rows()) == COLUMNS
    for column, (command, images, fetched, disk, time, paper) in rows().items():
        found = re.fullmatch(r"`make benchmarks DATA_SETS=(\w+)( ZIPS=FOLDER)?`", command)
        assert found is not None
        entry = CATALOGUE[found[1]]
        assert entry.column == column
        assert bool(found[2]) == any(archive.login for archive in entry.archives)
        assert int(images.replace(",", "")) == dict(entry.splits)["val"]
        assert float(paper) == PAPER.figures[column]
        assert all((fetched, disk, time))
        if amount := re.match(r"([\d.]+) GB", fetched):
            known = sum(archive.about_bytes or 0 for archive in entry.needed(["val"]))
            assert float(amount[1]) == pytest.approx(known / 1e9, abs=0.06)
    assert "](docs/benchmarks.md)" in (REPOSITORY / "README.md").read_text()


def test_the_page_is_one_command_and_its_others_are_ones_that_the_program_takes(tmp_path: Path):
    (tmp_path / ".ready").touch()
    (line,) = dry_run("make benchmarks", tmp_path)
    assert line.split()[1:3] == ["-m", "flows.benchmarks"]
    assert benchmarks._parser().parse_args(line.split()[3:]).data_sets == [*benchmarks.DATA_SETS]
    command = "make benchmarks DATA_SETS=cityscapes19 ZIPS=FOLDER"
    assert f"`{command}`" in PAGE
    (line,) = dry_run(command, tmp_path)
    found = benchmarks._parser().parse_args(line.replace('"', "").split()[3:])
    assert (found.data_sets, found.zips) == (["cityscapes19"], Path("FOLDER"))
    assert BLOCKS[0] == "make benchmarks\n"
    for line in BLOCKS[1].splitlines():
        _parser().parse_args(line.partition("#")[0].split()[1:])


def test_the_seven_data_sets_are_the_papers_columns():
    assert [CATALOGUE[name].column for name in benchmarks.DATA_SETS] == [*COLUMNS]


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml, small trees of all data sets, and COCO's as training images."""
    grow(tmp_path / "data/benchmarks")
    installing = import_module("fmbseg.fetch.install")
    monkeypatch.setattr(installing, "_complete", lambda *_: True)  # fewer images than published
    shutil.copy(REPOSITORY / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.weights
def test_the_command_makes_the_papers_params_once_and_says_what_it_leaves_out(
    checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    asked: list[tuple[str, ...]] = []

    def run(root: Path) -> int:
        asked.append(load_params(root / "params.yaml").evaluate.data_sets)
        return 0

    monkeypatch.setattr(benchmarks, "_weights", lambda _: None)
    shutil.rmtree(checkout / "data/benchmarks/leftImg8bit")
    assert benchmarks.main(["voc21", "cityscapes19", "ade150"], run) == 1
    assert asked == [("home", "voc21"), ("home", "voc21", "ade150")]
    assert "cityscapes19 is left out: cityscapes19: only an account" in capsys.readouterr().err
    params = load_params("runs/paper/params.yaml")
    assert params.models.profile == "paper"
    assert (params.train.epochs, params.train.patches_per_image) == (10, None)
    assert (params.evaluate.protocol, params.evaluate.background) == ("tcl", "stuff_names")
    assert [one.key for one in departures(params) if one.published] == []
    before, after = (Path(name).read_text() for name in ("params.yaml", "runs/paper/params.yaml"))
    assert before.count("#") == after.count("#"), "comments are kept"
    write_params(Path("runs/paper/params.yaml"), {"train.learning_rate": 0.3})
    assert benchmarks.main(["voc20"], lambda _: 3) == 3, "a failed run ends it"
    assert load_params("runs/paper/params.yaml").train.learning_rate == 0.3, "own edits stay"
    assert benchmarks.main(["voc99"]) == 2


@pytest.mark.slow
@pytest.mark.weights
def test_the_command_downloads_runs_scores_and_prints_the_table_beside_the_papers(
    checkout: Path, capsys: pytest.CaptureFixture[str]
):
    root = checkout / "runs/paper"
    benchmarks.prepare(root, "miniature")
    write_params(root / "params.yaml", {
        "train.epochs": 1, "report.gallery_images": 0, "pseudo_masks.points_per_side": 6,
    })  # fmt: skip

    def run(workspace: Path) -> int:
        run_all(Workspace.open(workspace))
        return 0

    assert benchmarks.main(["voc21"], run) == 0
    printed = capsys.readouterr().out
    workspace = Workspace.open(root)
    metrics = read_json(workspace.evaluate / "fmbseg-voc21" / "metrics.json")
    measured, paper = 100 * metrics["miou"], PAPER.figures["PV-21"]
    assert (
        f"| PV-21 | voc21 val | {paper:.2f} | {measured:.2f} | {signed(measured - paper)} "
        f"| {trees.IMAGES} | tcl {metrics['protocol_hash']} |"
    ) in printed
