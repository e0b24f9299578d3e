"""Experiments of DVC: what `dvc exp run --set-param` does to params.yaml."""

import contextlib
import csv
import difflib
import json
import re
import shutil
import sqlite3
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import apply_overrides

from fmbseg.miniature.world import generate
from fmbseg.params import load_params
from fmbseg.params_edit import write_params
from fmbseg.params_yaml import flatten
from tests.conftest import REPOSITORY
from tests.support.dvc_checkout import finished, save_images

BIN = Path(sys.executable).parent


def hashes() -> str:
    """The columns that `make experiments` leaves out, as the Makefile names them."""
    found = re.search(r"^HASHES := (.*)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert found is not None
    return found[1].replace("$$", "$")


def csv_of(text: str) -> list[dict[str, str]]:
    """The rows of a table that DVC printed."""
    return list(csv.DictReader(text.splitlines()))


def logged_states(database: Path) -> list[str]:
    """Of MLflow's finished runs, each the state of a workspace."""
    with contextlib.closing(sqlite3.connect(database)) as found:
        rows = found.execute(
            "select tags.value from runs join tags using (run_uuid) where tags.key = 'key.state' "
            "and runs.status = 'FINISHED' and run_uuid not in "
            "(select run_uuid from tags where key = 'mlflow.parentRunId')"
        ).fetchall()
    return [state for (state,) in rows]


@pytest.fixture
def params(tmp_path: Path) -> Path:
    """A copy of the repository's params.yaml."""
    return Path(shutil.copyfile(REPOSITORY / "params.yaml", tmp_path / "params.yaml"))


def changed_lines(path: Path) -> list[str]:
    """Lines taken out and put in, against the repository's file."""
    before = (REPOSITORY / "params.yaml").read_text().splitlines()
    found = difflib.unified_diff(before, path.read_text().splitlines(), n=0, lineterm="")
    return [line for line in found if not line.startswith(("---", "+++", "@@"))]


def test_a_parameter_set_by_dvc_changes_its_value_and_no_other_byte(params: Path):
    apply_overrides(str(params), ["train.epochs=5"])
    taken, put = changed_lines(params)
    assert put == "+" + re.sub(
        r"epochs: \w+", lambda old: "epochs: 5".ljust(len(old[0])), taken[1:]
    )


@pytest.mark.parametrize(
    ("key", "given", "value"),
    [
        ("train.init_from", "champion", "champion"), ("data.labels", "my/labels", "my/labels"),
        ("train.weight_decay", "1.0e-5", 1e-5), ("train.learning_rate", "0.05", 0.05),
        ("models.template", "'a \"{}\"'", 'a "{}"'), ("threads", "12", 12),
        ("evaluate.methods", "[fmbseg]", ("fmbseg",)), ("subsample.keep_fraction", "0.5", 0.5),
    ],
)  # fmt: skip
def test_comments_and_all_other_lines_survive_dvc_and_the_value_is_read_back(
    params: Path, key: str, given: str, value: Any
):
    apply_overrides(str(params), [f"{key}={given}"])
    taken, put = ([one for one in changed_lines(params) if one[0] == sign] for sign in "-+")
    assert len(put) <= 1
    section, _, name = key.rpartition(".")
    assert all(line[1:].lstrip().startswith((f"{name}:", "- ")) for line in taken + put)
    comments = [line.partition(" #")[2] for line in taken if " #" in line]
    assert comments == [line.partition(" #")[2] for line in put if " #" in line]
    found = load_params(params)
    assert getattr(getattr(found, section) if section else found, name) == value


def test_dvc_and_a_request_write_the_same_bytes(params: Path, tmp_path: Path):
    other = Path(shutil.copyfile(params, tmp_path / "other.yaml"))
    apply_overrides(str(params), ["train.epochs=5", "data.labels=x", "runner.kind=dask"])
    write_params(other, {"train.epochs": 5, "data.labels": "x", "runner.kind": "dask"})
    assert params.read_bytes() == other.read_bytes()
    write_params(params, {"data.labels": None})
    apply_overrides(str(other), ["data.labels=null"])
    assert params.read_bytes() == other.read_bytes()


@pytest.mark.e2e
@pytest.mark.weights
def test_an_experiment_reaches_mlflow_like_any_run_and_is_compared_by_dvc(
    tmp_path_factory: pytest.TempPathFactory,
    tmp_path: Path,
    prefect_server: None,
    dvc_site: None,
):
    one = finished(tmp_path_factory).copy(tmp_path / "code")
    one.change(tracking={"uri": f"sqlite:///{tmp_path}/mlflow.db"})
    one.dvc("repro")
    one.git("commit", "--quiet", "--all", "--message=run")
    before = one.root.joinpath("params.yaml").read_text()
    assert len(logged_states(tmp_path / "mlflow.db")) == 1
    one.dvc("exp", "run", "--set-param", "train.epochs=3")
    assert len(set(logged_states(tmp_path / "mlflow.db"))) == 2
    assert "epochs: 3" in (one.root / "params.yaml").read_text()
    assert "epochs: 2" in before
    assert one.status() == set()
    drawn = json.loads(one.dvc("plots", "diff", "HEAD", "--json"))["data"]
    loss = drawn["reports/report/plots/loss.json"][0]
    assert sorted(loss["revisions"]) == ["HEAD", "workspace"]
    assert set(one.flow().values()) == {"Cached"}
    assert len(logged_states(tmp_path / "mlflow.db")) == 2, "a state is logged once"


@pytest.mark.e2e
@pytest.mark.weights
def test_queued_experiments_run_in_copies_reach_mlflow_and_are_shown_in_a_narrow_table(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, dvc_site: None
):
    one = finished(tmp_path_factory).copy(tmp_path / "code")
    one.change(tracking={"uri": "sqlite:///mlflow.db"})
    save_images(one.root / "data" / "drops", [item.image for item in generate(11, 2, "train")])
    one.dvc("repro")
    one.git("commit", "--quiet", "--all", "--message=run")
    database, computed = one.root / "mlflow.db", one.computed()
    assert len(logged_states(database)) == 1
    drops = sorted((one.root / "data" / "drops").glob("*.png"))
    kept = [word for file in drops for word in ("-C", str(file.relative_to(one.root)))]
    for epochs in (3, 4):
        one.dvc("exp", "run", "--queue", *kept, "-S", f"train.epochs={epochs}")
    one.dvc("exp", "run", "--run-all")
    assert one.status() == set(), "the workspace is as it was"
    assert one.computed() == computed
    assert one.git("status", "--porcelain") == ""
    assert len(set(logged_states(database))) == 3, "in the checkout's own database"

    installed = (f"--old-file={BIN.parent}/.ready", f"VENV={BIN.parent}")
    made = one.run("env", "COLUMNS=200", "make", *installed, "experiments")
    assert "train.epochs" in made
    table = csv_of(one.dvc("exp", "show", "--csv", "--only-changed", "--drop", hashes()))
    names = {name for name in table[0] if name not in ("rev", "typ", "parent")}
    assert names == {
        "Experiment", "Created", "State", "Executor", "miou.fmbseg-miniature", "train.epochs"
    } - ({"State", "Executor"} - table[0].keys())  # fmt: skip
    rows = {row["train.epochs"]: row for row in table if row["typ"].startswith("branch_")}
    assert rows.keys() == {"3", "4"}
    for row in rows.values():
        assert 0 <= float(row["miou.fmbseg-miniature"]) <= 1
    everything = csv_of(one.dvc("exp", "show", "--csv", "--drop", hashes()))[0]
    parameters = flatten(yaml.safe_load((one.root / "params.yaml").read_text()))
    figures = [
        name for name in everything
        if name.startswith(("miou.", "pseudo_masks.")) and name not in parameters
    ]  # fmt: skip
    assert len(figures) == 4, "columns of figures, without --only-changed too"

    one.dvc("exp", "apply", rows["4"]["Experiment"])
    assert one.workspace().params.train.epochs == 4
    assert one.status() == set(), "the same images were seen: those in data/drops, too"
    assert one.computed() == computed, "nothing is computed again"
