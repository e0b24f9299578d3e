"""`fmbseg serve` under clients that mean harm: what it opens, what it holds, what a kill leaves."""

import http.client
import io
import json
import signal
import socket
import struct
import threading
import zlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import numpy as np
import psutil  # type: ignore[import-untyped]
import pytest
from PIL import Image

from tests.support.opened_files import watch
from tests.support.running_server import until
from tests.support.serve_process import left_behind, served
from tests.support.trained_folder import TRAINED, trained_folder

pytestmark = [pytest.mark.weights, pytest.mark.e2e]

HOST = "127.0.0.1"
PNG = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_folder(tmp_path_factory.mktemp("trained"), vocabulary=TRAINED)


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    (tmp_path / "empty").mkdir()
    return tmp_path / "empty"


def png(height: int = 96, width: int = 128) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 255, (height // 16, width // 16, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(np.kron(pixels, np.ones((16, 16, 1), np.uint8))).save(file, "PNG")
    return file.getvalue()


def bomb(side: int = 30_000) -> bytes:
    """A PNG of a few hundred bytes that says it has 900 million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(10_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def ask(
    port: int, body: bytes | Iterator[bytes], target: str = "/segment", method: str = "POST",
    headers: dict[str, str] | None = None,
) -> tuple[int, bytes]:  # fmt: skip
    link = http.client.HTTPConnection(HOST, port, timeout=300)
    try:
        link.request(method, target, body, PNG | (headers or {}))
        answer = link.getresponse()
        return answer.status, answer.read()
    finally:
        link.close()


def test_nothing_that_a_client_sends_makes_the_server_open_a_file(
    model: Path, empty: Path, tmp_path: Path
):
    (tmp_path / "watch").mkdir()
    variables, log = watch(tmp_path / "watch")
    secret = tmp_path / "secret.png"
    secret.write_bytes(png())
    paths = [str(secret), "/etc/passwd", "../../etc/passwd", "classes.txt", "file:///etc/passwd",
             "C:\\secret.png", "~/x.png"]  # fmt: skip
    with served(model, empty, variables=variables) as server:
        for form in ("png", "coco", "overlay", "confidence", "similarity"):
            assert ask(server.port, png(), f"/segment?format={form}&classes=sky,sea")[0] == 200
        ask(server.port, b"no picture")
        before = len(log.read_text().splitlines())
        told = []
        for path in paths:
            for key in ("classes", "background", "format"):
                told.append(ask(server.port, png(), f"/segment?{key}={quote(path, safe='')}"))
            told.append(ask(server.port, path.encode()))
            told.append(ask(server.port, png(), f"/segment?path={quote(path, safe='')}"))
            told.append(ask(server.port, png(), headers={"Content-Type": path.replace("\\", "/")}))
            told.append(ask(server.port, b"", f"/{quote(path)}", "GET"))
            told.append(ask(server.port, b"", f"/examples/{quote(path, safe='')}.png", "GET"))
        many = quote(",".join(f"c{i}" for i in range(10_000)), safe=",")
        told.append(ask(server.port, png(), f"/segment?classes={many}"))
        told += [ask(server.port, bad) for bad in (bomb(), b"\0" * 999, png()[:99], b"<svg/>" * 99)]
        assert {status for status, _ in told} <= {404, 405, 415, 422}
        for _, content in told:
            assert set(json.loads(content)) == {"problem", "found", "wanted"}
            assert len(content) < 1000
        opened = [one for one in log.read_text().splitlines()[before:] if not one.endswith(".pyc'")]
        assert opened == []
        assert before > 100, "nothing is written down"
        assert ask(server.port, png())[0] == 200
    assert left_behind(empty) == []


def test_memory_stays_bounded_whatever_is_sent_at_once(model: Path, empty: Path):
    limits = ("--at-once", "4", "--max-megabytes", "2", "--max-megapixels", "2", "--timeout", "200")
    many = quote(",".join(f"c{i}" for i in range(10_000)), safe=",")
    stop, held = threading.Event(), list[int]()
    with served(model, empty, *limits) as server, ThreadPoolExecutor(13) as clients:
        process = psutil.Process(server.process.pid)
        large = png(1120, 1760)
        assert len(large) < 2e6
        names = quote(", ".join(f"name {i}" for i in range(60)))
        assert ask(server.port, large, f"/segment?classes={names}")[0] == 200  # the dearest
        before = process.memory_info().rss

        def sample() -> None:
            while not stop.wait(0.05):
                held.append(process.memory_info().rss)

        def endless() -> Iterator[bytes]:
            for _ in range(3000):
                yield b"x" * 100_000  # 300 MB in all, no length said

        def send(number: int) -> int:
            kinds = (
                lambda: ask(server.port, bomb()),
                lambda: ask(server.port, endless(), headers={"Transfer-Encoding": "chunked"}),
                lambda: ask(server.port, b"x" * 3_000_000),
                lambda: ask(server.port, b"\0" * 1_900_000),
                lambda: ask(server.port, png(), f"/segment?classes={many}"),
                lambda: ask(server.port, large, f"/segment?format=overlay&classes={names}"),
            )
            try:
                return kinds[number % len(kinds)]()[0]
            except (OSError, http.client.HTTPException):
                return 0  # an answer that came while we were still sending, and a reset after it

        watching = clients.submit(sample)
        told = Counter(clients.map(send, range(72)))
        stop.set()
        watching.result()
        print(f"answers {dict(told)}; {(max(held) - before) / 1e6:.0f} MB above {before / 1e6:.0f}")
        assert set(told) <= {0, 200, 413, 422, 503}
        assert {413, 422} & set(told)
        assert max(held) - before < 80e6
        assert ask(server.port, png())[0] == 200


def test_idle_connections_are_so_many_and_the_server_is_there_again_when_they_go(
    model: Path, empty: Path
):
    with served(model, empty, "--at-once", "1") as server:
        idle = [socket.create_connection((HOST, server.port), timeout=10) for _ in range(20)]
        for one in idle:
            one.sendall(b"POST /segment HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        until(lambda: ask(server.port, png())[0] == 503, 10)
        for one in idle:
            one.close()
        until(lambda: ask(server.port, png())[0] == 200, 10)


def test_after_a_kill_the_port_is_free_and_a_new_server_answers_the_same(model: Path, empty: Path):
    large = png(1120, 1760)
    names = quote(", ".join(f"name {i}" for i in range(60)))
    with served(model, empty) as server, ThreadPoolExecutor(2) as clients:
        wanted, port = ask(server.port, png()), server.port
        running = [clients.submit(ask, port, large, f"/segment?classes={names}") for _ in range(2)]
        until(lambda: b"fmbseg_requests_inside 2" in ask(port, b"", "/metrics", "GET")[1], 20)
        server.process.send_signal(signal.SIGKILL)
        for one in running:
            with pytest.raises((OSError, http.client.HTTPException)):
                one.result(30)
        assert server.process.wait(30) == -signal.SIGKILL
    assert left_behind(empty) == []
    with served(model, empty, "--port", str(port)) as again:
        assert again.port == port
        assert ask(port, png()) == wanted
    assert left_behind(empty) == []
