"""What benchmarks share: turns, memory, promises, and the page that they write."""

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest

from benchmarks import flame, growth
from benchmarks.__main__ import PAGE, benchmarks, placed
from benchmarks.common import BROKEN, Table, Timed, added_bytes, in_turn
from tests.conftest import REPOSITORY


def test_ways_take_turns_at_going_first_and_the_first_round_does_not_count():
    order: list[str] = []
    ticks = itertools.count()
    ways = {way: lambda way=way: order.append(way) for way in ("a", "b")}
    timed = in_turn(ways, 3, clock=lambda: float(next(ticks)))
    assert order == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert timed["a"].seconds == (1.0, 1.0, 1.0)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak is known there")
def test_the_memory_of_a_way_is_what_it_adds_at_its_largest():
    assert 90e6 < added_bytes(lambda: np.ones(100_000_000, np.uint8).sum()) < 130e6
    assert added_bytes(lambda: None) < 20e6, "an earlier peak is none of its own"


def test_a_row_shows_medians_ratios_of_rounds_and_whether_promises_are_kept(
    capsys: pytest.CaptureFixture[str],
):
    ours, stock = Timed((1.0, 2.0, 1.0)), Timed((3.0, 4.0, 2.5))
    table = Table()
    table.row("x", ours, stock, Timed((0.5, 1.0, 0.5)), times_stock=2.5, times_floor=2.0)
    assert table.exit_code == 0
    row = capsys.readouterr().out.splitlines()[-1]
    assert "| 1 s (1 to 2) | 3 s (2.5 to 4) |" in row
    assert "| 2.50 (2.00 to 3.00) | 2.00 (2.00 to 2.00) |" in row
    table.row("x", ours, stock, times_stock=2.6)
    assert table.exit_code == BROKEN
    assert "≥ 2.6 × stock: NO, equal: yes" in capsys.readouterr().out
    table = Table()
    table.row("x", ours, stock, equal=False)
    assert table.exit_code == BROKEN


def test_a_table_goes_between_its_own_markers_and_needs_them():
    page = "a\n<!-- bench:x -->\nold\n<!-- /bench -->\nb\n<!-- bench:y -->\n<!-- /bench -->\n"
    new = placed(page, "x", r"| \1 |")
    assert new == page.replace("old", r"| \1 |")
    assert placed(new, "x", "old") == page
    with pytest.raises(ValueError, match=r"bench:z.*0 times"):
        placed(page, "z", "")


def test_every_marker_of_the_page_names_a_benchmark_and_stands_there_once():
    page = PAGE.read_text()
    named = re.findall(r"<!-- bench:(\w+) -->", page)
    assert {"masks", "miou", "bookkeeping"} <= set(named) <= set(benchmarks())
    for name in named:
        placed(page, name, "")


def test_time_counts_for_the_innermost_function_of_the_project_and_the_step_around_it(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.chdir(REPOSITORY)
    run = (str(REPOSITORY / "fmbseg/steps/train.py"), "run.<locals>.compute")
    key = (str(REPOSITORY / "fmbseg/steps/train.py"), "key")
    head = (str(REPOSITORY / "fmbseg/align/head.py"), "AlignmentHead.forward")
    torch = ("/x/site-packages/torch/nn.py", "f")
    prefect = ("/x/site-packages/prefect/a.py", "g")
    bootstrap = ("<frozen importlib._bootstrap>", "_load")
    assert flame.place([torch, head, run, prefect]) == (
        "train",
        "`align/head.py` AlignmentHead.forward",
    )
    assert flame.place([key, prefect]) == ("around the steps", "`steps/train.py` key")
    assert flame.place([bootstrap, head, run]) == ("train", "imports")
    assert flame.place([torch, prefect]) == ("around the steps", "prefect")
    assert flame.place([("/lib/threading.py", "run")]) == ("around the steps", "Python")


def test_functions_with_a_twentieth_of_the_time_have_a_row_and_the_rest_is_not_lost():
    used = {("train", "a"): 60.0, ("train", "b"): 30.0, ("train", "c"): 4.0, ("report", "d"): 4.9}
    assert flame.rows(used) == [
        ("train", "a", 60.0), ("train", "b", 30.0), ("train", "all else", 4.0),
        ("report", "all", 4.9),
    ]  # fmt: skip


def test_growth_is_flat_where_neither_time_nor_memory_of_a_size_is_a_tenth_above_the_last(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    def write(size: int, seconds: float, megabytes: float) -> None:
        shard = {"images": size / 2, "megabytes": megabytes, "process": 0}
        lines = [json.dumps({**shard, "seconds": seconds * size / 2})] * 2
        (tmp_path / f"stage1-{size}.jsonl").write_text("\n".join(lines))

    write(100, 0.100, 500)
    write(1000, 0.109, 540)
    assert growth.show(tmp_path) == 0
    assert "× 1.09, × 1.08 | yes" in capsys.readouterr().out
    write(1000, 0.100, 560)
    assert growth.show(tmp_path) == BROKEN
    write(1000, 0.112, 500)
    assert growth.show(tmp_path) == BROKEN
