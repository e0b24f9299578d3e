import os
import signal
import subprocess
import sys
import time

import psutil  # type: ignore[import-untyped]

from tests.conftest import REPOSITORY

STUDY = """
import multiprocessing, os, sys, time
from concurrent.futures import ProcessPoolExecutor
from studies.worker import end_with_parent
if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, spawn, initializer=end_with_parent) as processes:
        print(processes.submit(os.getpid).result(), flush=True)
        processes.submit(time.sleep, 600).result()
"""


def test_the_processes_of_a_killed_study_end_with_it(tmp_path):
    script = tmp_path / "study.py"
    script.write_text(STUDY)
    with subprocess.Popen(
        [sys.executable, str(script)], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    ) as study:  # fmt: skip
        assert study.stdout is not None
        worker = psutil.Process(int(study.stdout.readline()))
        study.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while worker.is_running() and worker.status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "the worker outlived its study"
        time.sleep(0.05)
