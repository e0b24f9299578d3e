"""The step `train` by several processes, from a cache on the disk, on other parts of pictures."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import Tensor

pytestmark = pytest.mark.e2e


def trained(run: Path, root: Path, *command: str, **values: Any) -> dict[str, Tensor]:
    """The head that a copy of a finished run trains with other settings, in a process."""
    if not root.exists():
        shutil.copytree(run, root)
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["train"] |= values
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    command = command or (sys.executable,)
    ran = subprocess.run(
        [*command, "-m", "fmbseg.steps", "train", "--workspace", str(root)],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "computed" in ran.stdout
    assert not list((root / ".scratch" / "params").glob("ranks-*"))
    weights: dict[str, Tensor] = load_file(root / "models" / "train" / "alignment.safetensors")
    return weights


def assert_near(found: dict[str, Tensor], expected: dict[str, Tensor], share: float) -> None:
    """Weights differ by at most that share of the largest one of their tensor."""
    for name, tensor in expected.items():
        assert float((found[name] - tensor).abs().max()) <= share * float(tensor.abs().max()), name


@pytest.mark.parametrize("cache", ["memory", "off", "disk"])
def test_two_processes_train_the_head_of_one(small_run: Path, tmp_path: Path, cache: str):
    settings = {"feature_cache": cache, "epochs": 3}
    alone = trained(small_run, tmp_path / "alone", **settings)
    two = trained(small_run, tmp_path / "two", processes=2, **settings)
    assert_near(two, alone, 1e-4)


def test_torchrun_trains_as_the_step_does_and_then_finds_nothing_to_do(
    small_run: Path, tmp_path: Path
):
    torchrun = (
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
    )  # fmt: skip
    own = trained(small_run, tmp_path / "own", processes=2)
    found = trained(small_run, tmp_path / "torchrun", *torchrun, processes=2)
    assert all(torch.equal(found[name], own[name]) for name in own)
    again = subprocess.run(
        [*torchrun, "-m", "fmbseg.steps", "train", "--workspace", str(tmp_path / "torchrun")],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert again.returncode == 0, again.stderr
    assert "up to date" in again.stdout
    ran = subprocess.run(
        [sys.executable, "-m", "fmbseg.steps", "train", "--workspace", str(tmp_path / "own")],
        capture_output=True, text=True, check=False, timeout=60,
        env=os.environ | {"RANK": "0", "WORLD_SIZE": "3"},
    )  # fmt: skip
    assert ran.returncode == 1
    assert "train.processes: found 2, but torchrun has started 3" in ran.stderr


def test_a_process_that_fails_ends_all_and_the_same_command_goes_on(
    small_run: Path, tmp_path: Path
):
    """The second process ends as Python starts in it."""
    root = tmp_path / "w"
    shutil.copytree(small_run, root)
    params = yaml.safe_load((root / "params.yaml").read_text())
    params["train"] |= {"processes": 2, "epochs": 3}
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    (tmp_path / "sitecustomize.py").write_text(
        "import os\nif os.environ.get('RANK') == '1':\n    raise SystemExit(9)\n"
    )
    command = [sys.executable, "-m", "fmbseg.steps", "train", "--workspace", str(root)]
    path = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    ran = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=300,
        env=os.environ | {"PYTHONPATH": path},
    )  # fmt: skip
    assert ran.returncode != 0
    assert "process 1 of 2 ended with exit code" in ran.stderr
    weights = "models/train/alignment.safetensors"
    assert (root / weights).read_bytes() == (small_run / weights).read_bytes()
    trained(small_run, root, processes=2, epochs=3)


def test_features_on_the_disk_give_the_weights_of_those_in_memory(small_run, tmp_path):
    exact = trained(small_run, tmp_path / "memory", epochs=10)
    disk = trained(small_run, tmp_path / "disk", epochs=10, feature_cache="disk")
    assert_near(disk, exact, 5e-3)
    off = trained(small_run, tmp_path / "off", epochs=10, feature_cache="off")
    assert all(torch.equal(off[name], exact[name]) for name in exact)


def test_a_training_on_parts_of_pictures_repeats(small_run: Path, tmp_path: Path):
    settings = {"feature_cache": "off", "flip": True, "crop_min_scale": 0.5, "epochs": 3}
    first = trained(small_run, tmp_path / "first", **settings)
    again = trained(small_run, tmp_path / "again", **settings)
    assert all(torch.equal(again[name], first[name]) for name in first)
    whole = trained(small_run, tmp_path / "whole", feature_cache="off", epochs=3)
    assert not torch.equal(whole["to_text.weight"], first["to_text.weight"])
