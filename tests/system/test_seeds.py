"""The trained method's figures over several seeds of its training, on one run's masks."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from fmbseg.evaluate.metrics import METRICS
from fmbseg.steps import figures, plan
from studies import seeds
from studies.cells import up_to_date
from tests.conftest import REPOSITORY
from tests.support.checkouts import set_params
from tests.support.figures import figures as metric_figures
from tests.system.test_e2e import readme_foundation, readme_rows


def scores(miou: float, iou: dict[str, float | None]) -> dict[str, Any]:
    return {
        **metric_figures(miou=miou, pixel_accuracy=miou + 0.1),
        "method": "fmbseg", "data_set": "miniature", "iou": iou,
        "seconds_per_image": 0.1, "split": "test", "images": 6,
        "protocol": {"name": "whole"}, "protocol_hash": "abc", "seed": 0,
    }  # fmt: skip


def test_the_readmes_row_is_the_mean_and_half_the_range_of_the_seeds(
    monkeypatch: pytest.MonkeyPatch,
):
    run = {"stage1-miniature": scores(0.7, {"sky": 0.7}) | {"method": "stage1"},
           "fmbseg-miniature": scores(0.8, {"sky": 0.9, "car": 0.4, "fish": None})}  # fmt: skip
    frozen = {
        "presence": {"precision": 1, "recall": 1, "f1": 1},
        "sam_random_point": {"top_scored_iou": 1, "best_of_3_iou": 1},
    }
    monkeypatch.setattr(figures, "METRICS", METRICS[:2])
    monkeypatch.setattr(figures, "of_methods", lambda _: run)
    monkeypatch.setattr(figures, "foundation", lambda _: frozen)
    others = [scores(0.81, {"sky": 0.5, "car": 0.6, "fish": None}),
              scores(0.85, {"sky": 0.4, "car": 0.8, "fish": 0.1})]  # fmt: skip
    monkeypatch.setattr(figures, "METRICS", METRICS[:2])
    workspace: Any = None
    lines = figures.markdown_table(workspace, again={"fmbseg-miniature": others}).splitlines()
    assert lines[2:4] == [
        "| `stage1` | miniature | 0.700 | 0.700 (sky) | 0.800 | 0.100 |",
        "| `fmbseg` | miniature | 0.820 ± 0.025 | 0.600 (car) | 0.920 ± 0.025 | 0.100 |",
    ]
    assert readme_rows("\n".join(lines)) == {"stage1": (0.7, 0.8), "fmbseg": (0.82, 0.92)}
    alone = figures.markdown_table(workspace).splitlines()[3]
    assert alone == "| `fmbseg` | miniature | 0.800 | 0.400 (car) | 0.900 | 0.100 |"


def test_the_readme_states_the_figures_that_the_end_to_end_test_compares():
    text = (REPOSITORY / "README.md").read_text()
    assert 0.7 < readme_rows(text)["fmbseg"][0] < 1
    assert len(readme_foundation(text)) == 5


@pytest.mark.slow
@pytest.mark.weights
def test_another_seed_trains_on_the_runs_own_masks_and_is_computed_once(
    small_run: Path, tmp_path: Path
):
    base = Path(shutil.copytree(small_run, tmp_path / "run"))
    root = tmp_path / "seeds"
    one, two = seeds.cells(base, 3, root)
    assert [one.overrides["train.seed"], two.overrides["train.seed"]] == [1, 2]
    assert one.prepare is not None
    one.write_params()
    one.prepare()
    computed = [
        name or step
        for step in ("download", "pseudo_masks", "subsample", "train", "evaluate")
        for name, new in plan.run_step(one.workspace, step).items()
        if new
    ]
    assert computed == ["subsample", "train", "fmbseg-miniature"], "masks and stage 1 are shared"
    weights = [root / "models/train/alignment.safetensors" for root in (base, one.root)]
    assert weights[0].read_bytes() != weights[1].read_bytes()
    for kept in (base / "data/subsample").glob("*-*.json"):
        assert kept.read_bytes() == (one.root / "data/subsample" / kept.name).read_bytes()
    one.prepare()
    assert up_to_date(one.workspace, "evaluate"), "sharing once more outdates nothing"
    assert one.metrics("fmbseg", "miniature")["images"] == 6
    set_params(base, {"train": {"epochs": 3}})
    with pytest.raises(seeds.NotRunError, match="make run first"):
        seeds.cells(base, 3, root)


@pytest.mark.weights
@pytest.mark.e2e
@pytest.mark.timeout(900)
def test_the_figures_of_further_seeds_are_computed_once(small_run: Path, tmp_path: Path):
    base = Path(shutil.copytree(small_run, tmp_path / "run"))
    first = seeds.again(base, 2, tmp_path / "seeds")
    assert list(first) == ["fmbseg-miniature"]
    assert len(first["fmbseg-miniature"]) == 1
    assert seeds.again(base, 2, tmp_path / "seeds") == first
