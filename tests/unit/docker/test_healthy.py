"""The containers' health checks tell a server that answers, and a worker that lives."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.compose_file import FOLDER
from tests.support.http_server import file_server

healthy = runpy.run_path(str(FOLDER / "healthy.py"))["main"]


def test_an_address_is_healthy_while_it_answers():
    with file_server() as server:
        url = server.serve("/health", b"OK")
        assert healthy(url) == 0
        assert healthy(server.url("/other")) == 1
    assert healthy(url) == 1


def test_a_worker_is_healthy_while_its_process_lives_and_is_known_to_prefect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("PROJECT", str(tmp_path))
    with file_server() as server:
        server.serve("/api/deployments/name/fmbseg/full", b"{}")
        monkeypatch.setenv("PREFECT_API_URL", server.url("/api"))
        assert healthy("worker") == 1, "no lock yet"
        (tmp_path / ".scratch").mkdir()
        lock = tmp_path / ".scratch" / "serve.lock"
        lock.write_text(str(os.getpid()))
        assert healthy("worker") == 0
        ended = subprocess.Popen([sys.executable, "-c", ""])
        ended.wait()
        lock.write_text(str(ended.pid))
        assert healthy("worker") == 1
        lock.write_text(str(os.getpid()))
    assert healthy("worker") == 1, "no Prefect"
