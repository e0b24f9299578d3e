import contextlib
import dataclasses
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from prefect import flow, get_client

from fmbseg.steps.plan import run_step, units_of
from fmbseg.steps.workspace import Workspace
from fmbseg.store.journal import Journal
from tests.conftest import REPOSITORY, SMALL
from tests.support.checkouts import (
    Checkout,
    assert_same_outputs,
    checkout,
    computed_units,
    processes_with,
)
from tests.support.killed_runs import finished_images
from tests.support.running_server import until

pytest.importorskip("prefect_dask")
pytestmark = [pytest.mark.weights, pytest.mark.slow, pytest.mark.timeout(900)]
DASK = {**SMALL, "runner": {"kind": "dask", "workers": 2}}


def workspace(root: Path, runner: dict[str, object]) -> Workspace:
    """A small workspace without methods to score."""
    root.mkdir()
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    for section, values in SMALL.items():
        params[section] |= values
    params["data"] |= {"train_images": 4, "test_images": 1, "shard_images": 1}
    params["runner"] |= runner
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    return Workspace.open(root)


def models_built() -> int:
    """How many models this process has built."""
    from fmbseg.steps import foundation_models

    return foundation_models._build.cache_info().misses


def test_two_dask_workers_give_the_bytes_of_one_thread_and_report_to_the_runs_server(
    prefect_server: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from flows.runner import start, task_runner, wait

    alone = workspace(tmp_path / "alone", {})
    for step in ("download", "pseudo_masks"):
        run_step(alone, step)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,7")
    mapped = workspace(tmp_path / "mapped", {"kind": "dask", "workers": 2})

    visible: dict[str, str] = {}
    built: dict[str, int] = {}

    @flow
    def stage_1(root: str) -> list[int]:
        with task_runner(mapped.params.runner) as runner:
            visible.update(cast(Any, runner).client.run(lambda: os.environ["CUDA_VISIBLE_DEVICES"]))
            for step in ("download", "pseudo_masks"):
                units = units_of(Workspace.open(root), step)
                wait([start(runner, root, unit) for unit in units])
            built.update(cast(Any, runner).client.run(models_built))
        return sorted({line["pid"] for line in mapped.journal.lines()})

    pids = stage_1(str(mapped.root))
    assert os.getpid() not in pids
    assert sorted(visible.values()) == ["3", "7"], "a GPU each"
    assert len(built) == 2
    assert set(built.values()) <= {0, 3}, "each of the three models once a worker, for 4 shards"
    assert_same_outputs(mapped.root, alone.root)
    with get_client(sync_client=True) as client:
        (run,) = client.read_flow_runs(limit=1, sort="START_TIME_DESC")
        reported = [task for task in client.read_task_runs(limit=200) if task.flow_run_id == run.id]
    assert sorted(task.name for task in reported) == [
        "download miniature", *(f"pseudo_masks images-000{shard}" for shard in range(4)),
    ]  # fmt: skip
    assert {task.state_name for task in reported} == {"Completed"}


@pytest.fixture(scope="module")
def threads(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A whole small run in threads."""
    folder = tmp_path_factory.mktemp("threads")
    copy = checkout(folder / "copy", folder / "outside", SMALL)
    copy.flow()
    return copy


@pytest.mark.e2e
def test_a_killed_worker_costs_one_image_and_no_byte(threads: Checkout, tmp_path: Path):
    copy = checkout(tmp_path / "copy", tmp_path / "outside", DASK)
    with copy.started("-m", "flows.run") as run:
        worker = until(lambda: worker_amid_a_shard(copy.root, run.mark), 300, run)
        os.kill(worker, signal.SIGKILL)
        assert run.wait(600).code == 0, run.logs[1].read_text()[-3000:]
    assert_same_outputs(copy.root, threads.root)
    stage_1 = [line for line in journal(copy) if line["step"] == "pseudo_masks"]
    assert sum(line["reused"] for line in stage_1) >= 1, "finished images were kept"
    assert len(computed_units(copy.root)) == len(set(computed_units(copy.root)))


@pytest.mark.e2e
def test_a_scheduler_elsewhere_takes_the_run_with_the_same_bytes(threads: Checkout, tmp_path: Path):
    copy = checkout(tmp_path / "copy", tmp_path / "outside", DASK)
    with cluster(copy, tmp_path / "scheduler.json") as (address, workers):
        told = dataclasses.replace(
            copy, environment={**copy.environment, "FMBSEG_DASK_ADDRESS": address}
        )
        told.flow()
        pids = {line["pid"] for line in journal(copy) if line["step"] == "pseudo_masks"}
        assert pids <= workers
    assert_same_outputs(copy.root, threads.root)


@contextmanager
def cluster(copy: Checkout, file: Path) -> Iterator[tuple[str, set[int]]]:
    """A scheduler and two workers as processes of their own; its address, the workers' ids."""
    shared = ("--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(file))
    with ExitStack() as stack:
        scheduler = copy.started("-m", "distributed.cli.dask_scheduler", *shared, "--port", "0")
        stack.enter_context(scheduler)
        until(file.is_file, 60)
        worker = ("-m", "distributed.cli.dask_worker", *shared, "--nthreads", "1", "--no-nanny")
        workers = [stack.enter_context(copy.started(*worker)) for _ in range(2)]
        address = yaml.safe_load(file.read_text())["address"]
        yield address, {one.process.pid for one in workers}


def worker_amid_a_shard(root: Path, mark: str) -> int | None:
    """Id of a process that holds a shard of which an image is finished; None while there is none.

    Args:
        root: the copy.
        mark: of the run's processes.
    """
    locks = {
        (root / f"{unit}.lock").resolve()
        for unit, images in finished_images(root).items()
        if images and unit.startswith("data/pseudo_masks/")
    }
    for pid in processes_with(mark):
        for file in Path(f"/proc/{pid}/fd").glob("*"):
            with contextlib.suppress(OSError):
                if file.readlink() in locks:
                    return pid
    return None


def journal(copy: Checkout) -> list[dict[str, Any]]:
    """Lines of the copy's journal."""
    return Journal(copy.root / ".scratch" / "journal.jsonl").lines()
