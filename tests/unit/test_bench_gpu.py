import pytest
import torch

from benchmarks import gpu


@pytest.mark.e2e
def test_the_benchmark_of_a_gpu_prints_every_stage_and_agreement_on_the_cpu_too(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert gpu.main(["--device", "cpu", "--quick"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"torch {torch.__version__.partition('+')[0]}" in lines[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if "|" in line]
    stages = [row for row in rows if len(row) == 4 and row[0] == "`miniature`"]
    assert [row[1].partition(",")[0] for row in stages] == [
        "CLIP", "SAM's encoder", "SAM's decoder", "stage 1", "vision encoder", "training",
        "evaluation",
    ]  # fmt: skip
    for row in stages:
        assert float(row[2].split()[0]) > 0, row


def test_the_benchmark_of_a_gpu_says_so_where_there_is_none(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 1
    assert "no such device" in capsys.readouterr().err


def test_a_speed_is_units_over_seconds_and_the_device_is_waited_for_before_the_clock_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, queued = 0.0, 0.0

    def work() -> int:
        nonlocal queued
        queued += 0.5  # a kernel of half a second is put into the queue, which takes no time
        return 4

    def wait(device: torch.device) -> None:
        nonlocal now, queued
        now, queued = now + queued, 0.0

    monkeypatch.setattr(gpu, "_synchronise", wait)
    monkeypatch.setattr(gpu, "perf_counter", lambda: now)
    speed = gpu.speed_of(work, torch.device("cpu"), 2.0)
    assert (speed.per_second, speed.least, speed.most) == (8.0, 8.0, 8.0)
