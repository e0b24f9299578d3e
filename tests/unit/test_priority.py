"""What nobody waits for yet leaves the processor to the training."""

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from fmbseg.priority import step_back
from fmbseg.steps import evaluate, evaluation_sets

linux = pytest.mark.skipif(sys.platform != "linux", reason="threads have no priority of their own")


def priority() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


@linux
def test_a_workers_thread_steps_back_and_the_main_thread_does_not():
    before = priority()
    step_back()
    assert priority() == before
    with ThreadPoolExecutor(1) as threads:
        threads.submit(step_back).result()
        assert threads.submit(priority).result() == min(before + 4, 19)
    assert priority() == before


@linux
@pytest.mark.parametrize(
    ("unit", "back"), [("foundation-x", 4), ("maskclip-x", 4), ("fmbseg-x", 0)]
)
def test_evaluations_beside_the_training_step_back_and_the_one_after_it_does_not(
    unit, back, monkeypatch
):
    found = []

    def stop(*_):
        found.append(priority())
        raise KeyError

    monkeypatch.setattr(evaluation_sets, "open_evaluation_set", stop)
    monkeypatch.setattr(evaluate, "key", lambda *_: None)
    monkeypatch.setattr(evaluate, "run_unit", lambda *given, **_: given[-1](Path()))
    workspace = SimpleNamespace(evaluate=Path(), scratch=lambda *_: None)
    with ThreadPoolExecutor(1) as threads, pytest.raises(KeyError):
        threads.submit(evaluate.run, workspace, unit).result()
    assert found == [min(priority() + back, 19)]
