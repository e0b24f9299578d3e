"""Two processes train as one does on the joint batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from fmbseg.align.batches import draw_patches, labels_of, read_group, share_of, weights_of
from fmbseg.align.head import AlignmentHead
from fmbseg.align.optimise import make_optimizer, take_step
from fmbseg.align.ranks import ALONE, Ranks
from tests.support.toy_training import SETTINGS, Cut, cut_after, result, run, world

BATCH = [0, 1, 3, 4]
WEIGHTS = [1.0, 4.0, 1.0, 2.0, 1.0]
SHARES = {"even": [[0, 3], [1, 4]], "uneven": [[0, 1, 4], [3]], "one has none": [[], BATCH]}


def step(folder: Path, ranks: Ranks) -> None:
    """The loss and the joined gradients of a step, for each way to deal the batch out."""
    features, labels, texts = world()
    found: dict[str, Tensor | None] = {}
    for name, shares in SHARES.items():
        head = AlignmentHead(12, 7, 2, 2.0, generator=torch.Generator().manual_seed(1))
        drawn = draw_patches(labels, BATCH, None, np.random.default_rng(0))
        parts = [share_of(drawn, share) for share in shares] if ranks.count > 1 else [drawn]
        groups = [read_group(one, features.__getitem__) for one in parts[ranks.rank]]
        loss = take_step(
            ranks.model(head), make_optimizer(head, SETTINGS), groups,
            [labels_of(part) for part in parts], texts, SETTINGS, 0.0, ranks,
            weights_of(parts, WEIGHTS),
        )  # fmt: skip
        found |= {f"{name} {key}": p.grad for key, p in head.named_parameters()}
        found[f"{name} loss"] = torch.tensor(loss)
    torch.save(found, folder / f"{ranks.rank}-{ranks.count}.pt")


def train(folder: Path, ranks: Ranks, cut: int | None = None) -> None:
    """A whole training; one that is cut and gone on with."""
    from fmbseg.align.trainer import train_alignment

    features, labels, texts = world()
    get = features.__getitem__ if cut is None else cut_after(features, cut)
    train_alignment(
        get, labels, texts, SETTINGS, folder, folder / "resume", progress=False, vision_dim=12,
        ranks=ranks,
    )  # fmt: skip


def work(folder: Path, port: int) -> None:
    """What each of the processes does."""
    from datetime import timedelta

    from torch import distributed

    torch.set_num_threads(1)
    rank = int(os.environ["RANK"])
    distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=2,
        timeout=timedelta(seconds=60),
    )  # fmt: skip
    ranks = Ranks(rank, 2)
    step(folder, ranks)
    train(folder / "whole", ranks)
    try:
        train(folder / "cut", ranks, cut=11)
    except Cut:
        distributed.barrier()
    train(folder / "cut", ranks)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes on loopback left what they computed."""
    import socket

    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    code = f"from tests.unit.align.test_ranks import *; work(Path({str(folder)!r}), {port})"
    started = [
        subprocess.Popen([sys.executable, "-c", code], env=os.environ | {"RANK": str(rank)})
        for rank in range(2)
    ]
    assert [one.wait(100) for one in started] == [0, 0]
    return folder


@pytest.mark.parametrize("shares", SHARES)
def test_loss_and_gradients_are_those_of_one_process_on_the_joint_batch(both, tmp_path, shares):
    step(tmp_path, ALONE)
    alone = torch.load(tmp_path / "0-1.pt")
    for rank in range(2):
        found = torch.load(both / f"{rank}-2.pt")
        for name in (name for name in alone if name.startswith(shares)):
            assert found[name].abs().max() > 0 or "to_text" not in name
            torch.testing.assert_close(found[name], alone[name], rtol=0, atol=1e-5)


def test_a_training_ends_with_the_weights_and_the_history_of_one_process(both, tmp_path):
    run(tmp_path)
    expected = load_file(tmp_path / "alignment.safetensors")
    found = load_file(both / "whole" / "alignment.safetensors")
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=0, atol=1e-5)
    ours, theirs = (
        json.loads((f / "history.json").read_text()) for f in (both / "whole", tmp_path)
    )
    assert [point["step"] for point in ours] == [point["step"] for point in theirs]
    assert [p["loss"] for p in ours] == pytest.approx([p["loss"] for p in theirs], abs=1e-5)


def test_a_cut_training_of_two_goes_on_where_it_was_with_the_same_bytes(both):
    assert result(both / "cut") == result(both / "whole")
