"""docs/benchmarks.md: its commands can be copied, its table agrees with the code."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fmbseg import load_params
from fmbseg.datasets.catalogue import CATALOGUE
from fmbseg.evaluate.quoted import COLUMNS, PAPER
from fmbseg.steps import evaluate
from fmbseg.steps.workspace import Workspace
from tests import official_trees as trees
from tests.conftest import REPOSITORY, SMALL
from tests.system import set_params
from tests.test_seven_columns import grow

PAGE = (REPOSITORY / "docs/benchmarks.md").read_text()
BLOCKS = re.findall(r"^```\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
PARSED = """
import sys
from fmbseg.cli import _parser
_parser().parse_args(sys.argv[1:])
"""
RECORDED = '#!/bin/sh\necho {name} "$@" >> "{log}"\n'


def rows() -> dict[str, list[str]]:
    """First cell of the table of columns to its other cells."""
    lines = [line for line in PAGE.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first: rest for first, *rest in cells if first in COLUMNS}


def bash(script: str, folder: Path, make: str) -> list[str]:
    """Run a script with `fmbseg` and `make` recorded; the commands it gave."""
    log, shims = folder / "log", folder / "shims"
    shims.mkdir(exist_ok=True)
    commands = {
        "fmbseg": f'exec "{sys.executable}" -c \'{PARSED}\' "$@"\n', "make": make, "python":
        f'exec "{sys.executable}" "$@"\n',
    }  # fmt: skip
    for name, body in commands.items():
        record = RECORDED.format(name=name, log=log) if name != "python" else "#!/bin/sh\n"
        (shims / name).write_text(record + body)
        (shims / name).chmod(0o755)
    environment = os.environ | {
        "PATH": f"{shims}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY),
    }  # fmt: skip
    done = subprocess.run(
        ["bash", "-eu", "-c", script], cwd=folder, env=environment, text=True, timeout=900,
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return log.read_text().splitlines() if log.exists() else []


def block_with(words: str) -> str:
    (found,) = [block for block in BLOCKS if words in block]
    return found


def test_every_column_has_a_command_its_images_and_the_papers_number():
    assert tuple(rows()) == COLUMNS
    for column, (command, images, fetched, disk, time, paper) in rows().items():
        found = re.fullmatch(r"`score (\w+)( --zips FOLDER)?`", command)
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


def test_the_commands_for_once_are_ones_that_the_program_takes(tmp_path: Path):
    assert bash(block_with("download --list"), tmp_path, "") == [
        "fmbseg download --list",
        "fmbseg download --weights paper",
        "fmbseg download coco_stuff171 --split train val",
        "fmbseg estimate --params runs/paper/params.yaml",
    ]


@pytest.mark.slow
def test_the_recipe_and_the_columns_commands_leave_the_papers_params(tmp_path: Path):
    (tmp_path / "params.yaml").write_text((REPOSITORY / "params.yaml").read_text())
    commands = [rows()[column][0].strip("`") for column in ("PV-21", "City")]
    again = [*commands, commands[0]]
    script = block_with("score()") + "\n".join(again)
    given = bash(block_with("mkdir -p runs/paper") + script, tmp_path, "")
    names = [command.split()[1] for command in again]
    assert given == [
        "make run WORKSPACE=runs/paper",
        *(
            line
            for command in again
            for line in (command.replace("score", "fmbseg download"), given[0])
        ),
    ]
    params = load_params(tmp_path / "runs/paper/params.yaml")
    assert params.evaluate.data_sets == ("home", *names[:-1])
    assert (params.evaluate.protocol, params.evaluate.background) == ("tcl", "stuff_names")
    assert params.models.profile == "paper"
    assert (params.train.epochs, params.train.patches_per_image) == (10, None)
    before, after = ((tmp_path / name / "params.yaml").read_text() for name in (".", "runs/paper"))
    assert before.count("#") == after.count("#"), "comments are kept"


@pytest.mark.e2e
@pytest.mark.weights
@pytest.mark.timeout(1000)
def test_the_recipe_runs_on_small_trees_with_the_miniatures_models(tmp_path: Path):
    root = tmp_path / "data/benchmarks"
    grow(root)
    classes = CATALOGUE["coco_stuff171"].classes.class_file()
    (root / "coco_stuff171.classes.txt").write_text(classes)  # as a download leaves it
    (tmp_path / "params.yaml").write_text((REPOSITORY / "params.yaml").read_text())
    bash(block_with("mkdir -p runs/paper"), tmp_path, "")
    few = {"epochs": 1, "save_every_epochs": 1, "patches_per_image": None}
    set_params(tmp_path / "runs/paper", {
        "models": {"profile": "miniature"}, "train": few, "report": SMALL["report"],
        "pseudo_masks": SMALL["pseudo_masks"],
    })  # fmt: skip
    make = f'exec "{sys.executable}" -m flows.run --workspace runs/paper\n'
    bash(block_with("score()") + "score voc21\nscore ade150", tmp_path, make)
    workspace = Workspace.open(tmp_path / "runs/paper")
    assert workspace.params.evaluate.data_sets == ("home", "voc21", "ade150")
    assert evaluate.scored(workspace) == ["fmbseg-voc21", "fmbseg-ade150"]
    page = (workspace.report / "index.html").read_text()
    assert f"{trees.IMAGES}</td>" in page
    assert "PV-21" in page
    assert "ADE" in page
