import os

import pytest
import torch

from flows.worker_gpu import take_gpu


@pytest.mark.parametrize(
    ("visible", "there", "seen"),
    [
        (None, 4, ["0", "1", "2", "3", "0", "1"]),
        (None, 1, ["0"] * 6),
        (None, 0, [None] * 6),
        ("2,5", 8, ["2", "5", "2", "5", "2", "5"]),
        ("GPU-ab12,GPU-cd34,GPU-ef56", 8, ["GPU-ab12", "GPU-cd34", "GPU-ef56"] * 2),
        ("", 8, [""] * 6),
    ],
)
def test_workers_take_the_visible_gpus_in_turn(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, there: int, seen: list[str | None]
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    found = []
    for place in range(6):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible or "")
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
        take_gpu(place)
        found.append(os.environ.get("CUDA_VISIBLE_DEVICES"))
    assert found == seen
