"""Task `version`: what it commits, what it refuses, and what a kill leaves behind."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil  # type: ignore[import-untyped]
import pytest
from prefect.logging import disable_run_logger
from prefect.states import Failed

from fmbseg.steps.workspace import RUN_PARAMS
from fmbseg.store import file_sha, read_json, sha_of
from tasks import versioning
from tasks.versioning import DvcBusyError, DvcError, OutdatedError, version
from tests.support.dvc_checkout import Checkout, finished, hold_lock
from tests.unit.steps.test_corrections import correct

pytestmark = [pytest.mark.weights, pytest.mark.slow]


@pytest.fixture(autouse=True)
def no_server(dvc_site: None) -> Iterator[None]:
    with disable_run_logger():
        yield


@pytest.fixture
def done(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Checkout:
    """A finished run, to change."""
    return finished(tmp_path_factory).copy(tmp_path / "code")


def params_sha(one: Checkout) -> str:
    return file_sha(one.root / "params.yaml")


def commit(one: Checkout) -> str:
    return version.fn(str(one.root), params_sha(one))


def wait_for(claim: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.01)


def writes(one: Checkout) -> bool:
    """Whether a DVC command is writing an output just now."""
    path = one.root / ".dvc" / "tmp" / "rwlock"
    return path.is_file() and '"write": {"' in path.read_text()


def stands_still(process: psutil.Process) -> bool:
    return bool(process.status() == psutil.STATUS_STOPPED)


def killed_amid(one: Checkout) -> bool:
    """Kill this process's DVC command if it still writes an output once it stands still."""
    for child in psutil.Process().children():
        if "dvc" in child.cmdline():
            child.suspend()
            wait_for(partial(stands_still, child))
            if writes(one):
                child.kill()
                return True
            child.resume()
    return False


def test_it_writes_dvc_lock_from_nothing_and_records_the_run(done: Checkout):
    lock = done.root / "dvc.lock"
    before = lock.read_text()
    lock.unlink()
    assert not (done.root / "reports" / "finished.json").exists(), "DVC alone ran here"
    assert commit(done) == file_sha(lock)
    assert lock.read_text() == before
    assert len(read_json(done.root / "reports" / "finished.json")["units"]) == 12


def test_params_that_changed_under_the_run_are_refused_with_what_to_do(done: Checkout):
    began, lock = params_sha(done), file_sha(done.root / "dvc.lock")
    done.change(train={"epochs": 4})
    with pytest.raises(OutdatedError, match=r"params.yaml changed .* run again .* or put the old"):
        version.fn(str(done.root), began)
    assert file_sha(done.root / "dvc.lock") == lock


def test_corrections_accepted_under_a_run_fail_it_not_and_wait_for_the_next_to_commit(
    done: Checkout,
):
    lock, workspace = file_sha(done.root / "dvc.lock"), done.workspace()
    correct(workspace, min(workspace.listing().images), "sky")
    assert commit(done) == "none"
    assert file_sha(done.root / "dvc.lock") == lock
    assert read_json(done.root / "reports" / "finished.json")["corrections"] == {}


def test_a_run_with_parameters_of_its_own_is_committed_as_made_with_those(done: Checkout):
    own = done.root / RUN_PARAMS / "own.yaml"
    own.parent.mkdir(parents=True)
    shutil.copyfile(done.root / "params.yaml", own)
    before = (done.root / "dvc.lock").read_text()
    done.change(train={"epochs": 4})
    version.fn(str(own), file_sha(own))
    assert (done.root / "dvc.lock").read_text() == before, "which vouches for what lies there"
    said = done.dvc("status")
    assert re.search(r"params.yaml:\s+modified:\s+train", said), said


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("data/subsample/images-0000.json", "data/subsample: images-0000.json was edited"),
        ("data/download/miniature/classes.txt", "data/download/miniature: classes.txt was edited"),
        ("reports/report/note.txt", "reports/report: note.txt was added"),
    ],
)
def test_a_unit_edited_by_hand_is_refused_by_name(done: Checkout, file: str, said: str):
    lock = file_sha(done.root / "dvc.lock")
    with (done.root / file).open("a") as edited:
        edited.write(" ")
    with pytest.raises(OutdatedError, match=rf"{re.escape(said)} .* nothing was committed .* run"):
        commit(done)
    assert file_sha(done.root / "dvc.lock") == lock


@pytest.mark.parametrize("what", ["params.yaml changed", "images-0000.json was edited"])
def test_what_changes_before_dvc_hashes_it_is_refused_and_dvc_lock_is_put_back(
    done: Checkout, monkeypatch: pytest.MonkeyPatch, what: str
):
    lock, real = done.root / "dvc.lock", versioning._dvc_commit
    before, hashed = lock.read_bytes(), []

    def meanwhile(repository: Path) -> subprocess.CompletedProcess[str]:
        if what.startswith("params"):
            done.change(train={"epochs": 4})
        else:
            kept = done.root / "data" / "subsample" / "images-0000.json"
            kept.write_text(kept.read_text() + " ")
        ended = real(repository)
        hashed.append(lock.read_bytes())
        return ended

    monkeypatch.setattr(versioning, "_dvc_commit", meanwhile)
    with pytest.raises(OutdatedError, match=what):
        commit(done)
    assert hashed != [before]
    assert lock.read_bytes() == before


def test_a_repository_that_another_dvc_command_holds_is_busy_and_tried_again(done: Checkout):
    with hold_lock(done, seconds=60), pytest.raises(DvcBusyError, match="another DVC command"):
        commit(done)
    for error, again in ((DvcBusyError(), True), (DvcError(), False), (OutdatedError(), False)):
        assert versioning._is_busy(version, None, Failed(data=error)) == again


def test_an_output_that_a_live_command_writes_is_busy_and_one_of_a_dead_command_is_not(
    done: Checkout,
):
    living = '{"write": {"%s": {"pid": %d, "cmd": "dvc repro"}}}'
    path = done.root / ".dvc" / "tmp" / "rwlock"
    path.write_text(living % (done.root / "models" / "train", os.getpid()))
    with pytest.raises(DvcBusyError, match="models/train' is busy"):
        commit(done)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    path.write_text(living % (done.root / "models" / "train", ended.pid))
    assert commit(done) == file_sha(done.root / "dvc.lock")


@pytest.mark.parametrize("left", ["", '{"write": {"/some', "[]"])
def test_a_list_of_claims_that_a_kill_cut_is_begun_anew(done: Checkout, left: str):
    (done.root / ".dvc" / "tmp" / "rwlock").write_text(left)
    assert commit(done) == file_sha(done.root / "dvc.lock")


@pytest.mark.parametrize("kept", [0, 5000])
def test_a_dvc_lock_that_a_kill_cut_is_written_anew(done: Checkout, kept: int):
    lock = done.root / "dvc.lock"
    whole = lock.read_bytes()
    cut = whole[: whole.index(b"subsample:") - 4 if kept else 0]
    lock.write_bytes(cut + b"    subs" if kept else cut)
    commit(done)
    assert lock.read_bytes() == whole


def test_what_dvc_refuses_is_told_in_its_words(done: Checkout):
    path = done.root / "dvc.yaml"
    path.write_text(path.read_text().replace("cmd:", "command:", 1))
    with pytest.raises(DvcError, match=r"dvc commit refused .*dvc.yaml.* outputs are complete"):
        commit(done)


@pytest.mark.parametrize("missing", [".git", "dvc.yaml", ".dvc"])
def test_without_git_or_dvc_the_run_ends_well_and_nothing_is_committed(
    done: Checkout, missing: str
):
    path = done.root / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    lock = file_sha(done.root / "dvc.lock")
    assert commit(done) == "none"
    assert file_sha(done.root / "dvc.lock") == lock


def commit_is_killed(one: Checkout) -> bool:
    """Whether a commit was caught while it wrote an output: that moment is short."""
    over = threading.Event()

    def lie_in_wait() -> None:
        while not over.is_set() and not (writes(one) and killed_amid(one)):
            time.sleep(0.001)

    killer = threading.Thread(target=lie_in_wait)
    killer.start()
    try:
        commit(one)
    except DvcError as error:
        if "exit code -9" not in str(error):
            raise
        return True
    finally:
        over.set()
        killer.join()
    return False


def test_a_commit_that_is_killed_needs_no_repair(done: Checkout):
    lock = sha_of((done.root / "dvc.lock").read_text())
    assert any(commit_is_killed(done) for _ in range(20)), "no commit was caught in time"
    assert writes(done), "the dead command's claim is still there"
    commit(done)
    assert done.status() == set()
    assert sha_of((done.root / "dvc.lock").read_text()) == lock


def test_a_dvc_repro_that_is_killed_needs_no_repair(done: Checkout):
    shutil.rmtree(done.root / "reports" / "report")
    before = done.computed()
    repro = done.start(sys.executable, "-m", "dvc", "repro")
    wait_for(lambda: writes(done))
    os.killpg(repro.pid, signal.SIGKILL)
    repro.wait()
    assert done.computed() == before
    done.dvc("repro")
    assert done.computed() == sorted([*before, "reports/report"])
    assert done.status() == set()
    commit(done)
