"""Outputs go to an S3 bucket and come back; the bucket is moto's server on loopback."""

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from fmbseg.store import file_sha
from tests.support.dvc_checkout import Checkout, finished

pytest.importorskip("dvc_s3", reason="needs fmbseg[s3]")
pytest.importorskip("moto.server", reason="needs fmbseg[dev]")
boto3 = pytest.importorskip("boto3")
pytestmark = [pytest.mark.weights, pytest.mark.slow, pytest.mark.usefixtures("dvc_site")]


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Address of a server with an empty bucket `fmbseg`."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        wait_for(address)
        boto3.client("s3", endpoint_url=address).create_bucket(Bucket="fmbseg")
        yield address
    finally:
        server.terminate()
        server.wait(30)


def wait_for(address: str) -> None:
    end = time.monotonic() + 120
    while True:
        try:
            urllib.request.urlopen(address, timeout=5).close()
            return
        except OSError:
            assert time.monotonic() < end, f"no answer at {address}"
            time.sleep(0.2)


def test_outputs_pushed_to_s3_are_pulled_whole_and_nothing_is_computed(
    bucket: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
):
    done = finished(tmp_path_factory).copy(tmp_path / "code")
    done.dvc("remote", "add", "--default", "store", "s3://fmbseg/outputs")
    done.dvc("remote", "modify", "store", "endpointurl", bucket)
    done.git("commit", "--quiet", "--all", "--message=store")
    done.dvc("push")
    assert json.loads(done.dvc("status", "--cloud", "--json")) == {}

    done.git("clone", "--quiet", str(done.root), str(tmp_path / "clone"))
    clone = Checkout(tmp_path / "clone")
    clone.dvc("pull")
    assert clone.status() == set()
    assert "Running stage" not in clone.dvc("repro")
    assert clone.computed() == []
    for file in ("models/train/alignment.safetensors", "reports/report/index.html"):
        assert file_sha(clone.root / file) == file_sha(done.root / file)
