"""All columns of the paper's table on small official trees, from images to the table itself."""

import re
from pathlib import Path

import numpy as np
import pytest

from fmbseg.datasets.catalogue import CATALOGUE
from fmbseg.models.build import build_model
from fmbseg.report.quoted import COLUMNS, PAPER
from fmbseg.steps.scoring import IMAGE_SCORES
from fmbseg.steps.workspace import Workspace
from fmbseg.store import read_json
from fmbseg.types import IGNORE
from tests.support import official_trees as trees
from tests.support.checkouts import set_params
from tests.support.dvc_checkout import checkout
from tests.unit.steps.test_steps import run_all

DATA_SETS = {
    "PV-21": "voc21", "PV-20": "voc20", "PC-59": "context59", "CO-80": "coco_things80",
    "CS-171": "coco_stuff171", "City": "cityscapes19", "ADE": "ade150",
}  # fmt: skip
METHODS = ["maskclip", "fmbseg"]


def grow(root: Path) -> None:
    """Trees of all public data sets in one folder, as `fmbseg download` leaves them."""
    for make in (trees.voc2012, trees.context, trees.coco_stuff164k, trees.cityscapes, trees.ade):
        make(root)


def assert_the_table_is_filled(workspace: Workspace, protocol: str) -> None:
    page = (workspace.report / "index.html").read_text()
    text = " ".join(re.sub("<[^>]+>", " ", page).split())
    assert tuple(DATA_SETS) == COLUMNS
    gaps = []
    for column, data_set in DATA_SETS.items():
        for method in METHODS:
            unit = workspace.evaluate / f"{method}-{data_set}"
            metrics = read_json(unit / "metrics.json")
            assert metrics["images"] == trees.IMAGES, "none was quarantined"
            assert list(metrics["iou"]) == list(CATALOGUE[data_set].classes.names)
            assert metrics["protocol"]["name"] == protocol
            scores = read_json(unit / IMAGE_SCORES)
            assert len([one for one in scores if one["example"]]) == 2
        measured, paper = 100 * metrics["miou"], PAPER.figures[column]
        gaps.append(f"{measured - paper:+.2f}".replace("-", "−"))
        line = (
            f"{column} {data_set} val {paper:.2f} {measured:.2f} {gaps[-1]} {protocol} "
            f"{metrics['protocol_hash']} {trees.IMAGES} {metrics['seconds_per_image']:.3f}"
        )
        assert line in text
    assert f"measured − paper gap {' '.join(gaps)}" in text
    assert "CaR quoted 67.6 – 30.5 of PC-60 36.6 of COCO-Object – – –" in text
    assert "GroupViT quoted 50.4 79.7 18.7 of PC-60 27.5 of COCO-Object 15.3 11.1 9.2" in text
    assert len(page) < 6_000_000


@pytest.mark.slow
@pytest.mark.weights
def test_a_run_fills_every_column_with_measured_paper_and_gap(small_workspace: Path):
    grow(small_workspace / "data/benchmarks")
    changes = {"methods": METHODS, "data_sets": [*DATA_SETS.values()], "examples": 2}
    set_params(small_workspace, {"evaluate": changes | {"background": "stuff_names"}})
    workspace = Workspace.open(small_workspace)
    run_all(workspace)
    assert_the_table_is_filled(workspace, "whole")
    assert run_all(workspace) == []


@pytest.mark.e2e
@pytest.mark.weights
@pytest.mark.usefixtures("prefect_server", "dvc_site")
def test_the_flow_fills_the_table_under_the_papers_protocol_and_dvc_finds_nothing_to_do(
    tmp_path: Path,
):
    one = checkout(tmp_path / "code")
    grow(one.root / "data/benchmarks")
    changes = {"methods": METHODS, "data_sets": [*DATA_SETS.values()], "examples": 2}
    one.change(evaluate=changes | {"background": "stuff_names", "protocol": "tcl"})
    assert set(one.flow().values()) == {"Completed"}
    assert_the_table_is_filled(one.workspace(), "tcl")
    assert one.status() == set()
    assert "Running stage" not in one.dvc("repro")


@pytest.mark.weights
@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_names_that_the_miniature_never_saw_have_features_of_their_own(name: str):
    clip = build_model("clip", "miniature", {}, device="cpu")
    names = [*CATALOGUE[name].classes.names, "Müller's 自転車 " + "x" * 300]
    features = clip.encode_text(names).numpy()
    assert np.isfinite(features).all()
    assert np.allclose(np.linalg.norm(features, axis=1), 1, atol=1e-5)
    assert len(names) <= IGNORE + 1
    assert len(np.unique(features.round(5), axis=0)) == len(names)
