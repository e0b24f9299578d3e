"""Big tensors do not cost a page fault a page, in the processes that run steps."""

import os
import subprocess
import sys
from collections.abc import Mapping

import pytest

from fmbseg import allocator

FAULTS = """
import resource, sys, threading
import torch
torch.set_num_threads(1)
def work():
    x = torch.ones(10 * 2**20)
    (x + 1) * 2
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        (x + 1) * 2
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""
linux = pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")


def run(code: str, environment: Mapping[str, str]) -> str:
    own = {k: v for k, v in os.environ.items() if k not in (allocator.SWITCH, *allocator._OWN)}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=own | environment, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    printed: str = ran.stdout
    return printed.strip()


@linux
def test_a_worker_threads_big_tensors_reuse_their_memory_once_tasks_is_imported():
    """40 tensors of 40 MB are 409,600 pages; a quarter at most are touched for the first time.

    glibc by itself maps anew whatever is above 32 MB; below, it depends on what else is in use.
    """
    kept = int(run(f"import tasks\n{FAULTS}", {}))
    system = int(run(f"import tasks\n{FAULTS}", {"FMBSEG_ALLOCATOR": "system"}))
    assert kept < 150_000 < 200_000 < system


@linux
@pytest.mark.parametrize(
    "environment", [{"FMBSEG_ALLOCATOR": "system"}, {"MALLOC_ARENA_MAX": "2"}, {"LD_PRELOAD": ""}]
)
def test_the_allocator_is_left_alone_where_the_environment_says_so(environment: dict[str, str]):
    code = "from fmbseg.allocator import keep_memory; print(keep_memory())"
    assert run(code, environment) == "False"


@pytest.mark.parametrize("package", ["flows", "tasks", "studies"])
def test_a_program_sets_its_allocator_before_torch_is_loaded(package: str):
    code = (
        "import sys, fmbseg.allocator as a\n"
        "a.keep_memory = lambda: print('torch' in sys.modules)\n"
        f"import {package}"
    )
    assert run(code, {}).split()[0] == "False"


def test_elsewhere_than_on_linux_nothing_is_set(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert allocator.keep_memory() is False


@linux
def test_what_is_kept_can_be_given_back():
    code = """
import tasks, torch
from pathlib import Path
from fmbseg.allocator import give_back
def held_kb():
    return int(Path("/proc/self/status").read_text().partition("VmRSS:")[2].split()[0])
x = torch.ones(2**26)
del x
kept = held_kb()
give_back()
print(1024 * (kept - held_kb()))
"""
    assert int(run(code, {})) > 200e6
