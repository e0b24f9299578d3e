"""The studies' own logic; what they find stands in docs/."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fmbseg.miniature.world import SEEN_THINGS
from fmbseg.params import load_params
from fmbseg.store import MANIFEST
from fmbseg.types import Image
from studies import ablations, page, pictures, table
from studies.cells import Cell, CellError, run_all, share
from studies.worker import RememberingVision


def found(row: str, view: str, miou: list[float]) -> dict[str, Any]:
    return {
        "miou": miou, "things": miou, "iou": dict.fromkeys(SEEN_THINGS, miou),
        "seconds_per_image": [0.1] * len(miou), "images": 50, "protocol": "whole abc",
    }  # fmt: skip


def whole_table(**mious: float) -> dict[str, Any]:
    """All rows at 0.7 on every view, and things as good, unless said otherwise."""
    rows = {
        row: {view: found(row, view, [mious.get(row, 0.7)] * 3) for view in table.VIEWS}
        for row in table.ROWS
    }
    return {
        "rows": rows, "seeds": [0, 1, 2], "uses": table.USES, "presence_f1": [0.9],
        "sam_point_iou": [0.8], "views": dict.fromkeys(table.VIEWS, "words"),
    }  # fmt: skip


def held(made: dict[str, Any]) -> dict[str, bool]:
    return {words: holds for words, holds, _ in table.claims(made)}


def test_claims_hold_or_fail_with_the_figures():
    good = whole_table(maskclip=0.5, sclip=0.55, fmbseg_clip=0.6, fmbseg_ce=0.65)
    assert all(held(good).values()), held(good)
    assert not held(whole_table(maskclip=0.5, fmbseg=0.69))["stage1 <= fmbseg"]
    assert not held(whole_table())["maskclip < max(sclip, naclip)"], "a tie is not below"
    assert not held(whole_table(fmbseg_ce=0.71))["cross_entropy <= prototype_supcon"]
    good["rows"]["maskclip"]["miniature_unseen"]["miou"] = [0.9, 0.9, 0.9]
    assert [words for words, holds in held(good).items() if not holds] == [
        "unseen: maskclip < fmbseg"
    ]


def test_mean_and_half_the_range_leave_out_classes_that_no_image_shows():
    assert page.spread([0.4, 0.6, 0.5]) == "0.500 ± 0.100"
    assert page.spread([0.4, None]) == "0.400 ± 0.000"
    assert page.spread([None]) == "-"


def test_the_page_holds_every_row_and_replaces_its_own_block_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    docs = tmp_path / "miniature.md"
    docs.write_text("before\n<!-- table: begin -->\nold\n<!-- table: end -->\nafter\n")
    monkeypatch.setattr(page, "DOCS", docs)
    made = whole_table()
    made["claims"] = table.claims(made)
    del made["rows"]["fmbseg_finetuned"]["miniature_all"]
    picture = tmp_path / "masks.png"
    picture.write_bytes(b"picture")
    root = tmp_path / "root"
    root.mkdir()
    html = page.write_table(made, {"masks": picture}, root).read_text()
    text = docs.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "\nold\n" not in text
    for row in table.ROWS:
        assert f"| `{row}` |" in text
        assert f"<td>`{row}`</td>" in html
    (line,) = [line for line in text.splitlines() if line.startswith("| `fmbseg_finetuned` |")]
    assert line.split("|")[2].strip() == "-"
    assert (root / "masks.png").is_file()
    with pytest.raises(ValueError, match="0 blocks"):
        page.put_block(docs, "other", "")


def test_a_shared_unit_is_linked_and_the_base_is_never_written_to(tmp_path: Path):
    unit = tmp_path / "base" / "data" / "pseudo_masks" / "images-0000"
    unit.mkdir(parents=True)
    (unit / MANIFEST).write_text("{}")
    (unit / "stage11.json").write_text("masks")
    (unit.parent / "images-0000.lock").write_text("")
    share(tmp_path / "base", tmp_path / "other")
    copy = tmp_path / "other" / "data" / "pseudo_masks" / "images-0000"
    assert (copy / "stage11.json").samefile(unit / "stage11.json")
    assert sorted(path.name for path in copy.parent.iterdir()) == ["images-0000"]
    (unit / MANIFEST).unlink()
    (unit / MANIFEST).write_text('{"new": 1}')
    share(tmp_path / "base", tmp_path / "other")
    assert (copy / MANIFEST).read_text() == '{"new": 1}'


class CountingVision:
    """Answers its number of calls so far."""

    dim, calls = 1, 0

    def encode(self, image: Image) -> Tensor:
        self.calls += 1
        return torch.full((1, 1, 1), self.calls)

    def grid_hw(self, image_hw: tuple[int, int]) -> tuple[int, int]:
        return 1, 1


def test_features_are_kept_by_encoder_and_image():
    one, other = CountingVision(), CountingVision()
    black, white = np.zeros((2, 3, 3), np.uint8), np.full((2, 3, 3), 255, np.uint8)
    upright = black.reshape(3, 2, 3)
    for _ in range(2):
        said = [int(RememberingVision(one).encode(image)) for image in (black, white, upright)]
        assert said == [1, 2, 3]
        assert int(RememberingVision(other).encode(white)) == 1


def test_ablations_share_one_shipped_cell_and_keep_the_number_of_steps():
    wanted = ablations.ablations(Path("root"))
    cells = ablations.cells(Path("root"), wanted)
    shipped = [key for key, cell in cells.items() if cell.root.name == "shipped"]
    assert {name for name, _ in shipped} == {one.name for one in wanted}
    assert len({cell.root for cell in cells.values()}) == len(cells) - len(shipped) + 1
    for count in (100, 300, 600, 1000, 2000):
        overrides = ablations.images(count)
        assert overrides["data.train_images"] * overrides["train.epochs"] == 18_000
    for one in wanted:
        for value in one.values:
            assert cells[one.name, value].base is not None


def test_what_an_ablation_says_follows_from_its_figures():
    rows = [
        ablations.Scores("a", "fmbseg", 0.5, 0.4, shipped=False),
        ablations.Scores("b", "fmbseg", 0.7, 0.6, shipped=True),
    ]
    assert ablations.sentence(rows) == (
        "`fmbseg`: the shipped `b` is the best; the worst, `a`, is 0.200 below the best."
    )
    rows.append(ablations.Scores("c", "fmbseg", 0.8, 0.6, shipped=False))
    assert "the shipped `b` is 0.100 below `c`" in ablations.sentence(rows)


SMALL = table.Size(
    seeds=(0,), train_images=6, view_images=2, target_images=3, epochs=1, finetune_epochs=1
)


@pytest.mark.weights
@pytest.mark.e2e
@pytest.mark.timeout(1800)
def test_a_small_table_is_computed_once_and_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.setattr(table, "common", with_store(tmp_path))
    cells = table.cells(tmp_path / "table", SMALL)
    first = run_all(list(cells.values()), "table")
    assert min(first.values()) > 0
    assert set(run_all(list(cells.values()), "table").values()) == {0.0}
    table.captioned(cells).run()
    made = table.collect(cells, SMALL.seeds)
    captioned = tmp_path / "table" / "seed-0" / "talk2dino" / table.HOME / "metrics.json"
    written = captioned.stat().st_mtime_ns
    table.captioned(cells).run()
    assert captioned.stat().st_mtime_ns == written, "nothing is computed twice"
    assert set(made["rows"]) == set(table.ROWS)
    assert set(made["rows"]["fmbseg_finetuned"]) == set(table.TARGETS)
    weights = {
        name: (cell.root / "models/train/alignment.safetensors").read_bytes()
        for (_, name), cell in cells.items()
        if name != "fmbseg_all12"  # of so few images `balance` may keep all masks, too
    }
    assert len(set(weights.values())) == len(weights), "each training is another"
    drawn = pictures.draw(cells[0, "plain"], tmp_path / "pictures", table.HOME)
    assert {path.name for path in drawn.values()} == {
        "similarities.png", "masks.png", "predictions.png"
    }  # fmt: skip


def with_store(folder: Path):
    """`table.common` with an MLflow store of the test's own."""
    common = table.common
    return lambda seed, size: {
        **common(seed, size), "tracking.uri": f"sqlite:///{folder / 'mlflow.db'}"
    }  # fmt: skip


@pytest.mark.slow
def test_a_cell_takes_todays_defaults_and_one_that_fails_names_its_log(tmp_path: Path):
    (tmp_path / "cell").mkdir()
    (tmp_path / "cell" / "params.yaml").write_text("seed: 5  # of an older version\n")
    broken = Cell(tmp_path / "cell", {"data.images": str(tmp_path / "nothing")})
    with pytest.raises(CellError, match=r"no folder .*nothing.* the whole log: .*cell\.log"):
        run_all([broken], "test")
    ours, theirs = load_params("params.yaml"), broken.workspace.params
    assert (theirs.seed, theirs.train) == (ours.seed, ours.train)
