"""`fmbseg serve` as a process: many clients, clients that send half, and every way to end it."""

import http.client
import io
import json
import re
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import numpy as np
import psutil  # type: ignore[import-untyped]
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from fmbseg.segmenter import Segmenter
from fmbseg.store import decode_rle
from fmbseg.types import IGNORE
from tests.support.running_server import until
from tests.support.serve_process import left_behind, served
from tests.support.trained_folder import TRAINED, trained_folder

pytestmark = [pytest.mark.weights, pytest.mark.e2e]

HOST = "127.0.0.1"
CLASSES = (None, "cat=kitten, grass", "road, sky, water", "tree, brick wall")
SIZES_HW = ((96, 128), (128, 96), (80, 80))
REQUESTS, CLIENTS = 1_000, 8
Told = tuple[int, bytes]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_folder(tmp_path_factory.mktemp("trained"), vocabulary=TRAINED)


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [
        np.kron(rng.integers(0, 255, (h // 16, w // 16, 3), np.uint8), np.ones((16, 16, 1), "u1"))
        for h, w in SIZES_HW * 4
    ]  # fmt: skip


def png(pixels: np.ndarray, remark: str = "") -> bytes:
    """A file of these pixels; with a remark another file."""
    file, told = io.BytesIO(), PngInfo()
    told.add_text("remark", remark)
    Image.fromarray(pixels).save(file, "PNG", pnginfo=told)
    return file.getvalue()


def ask(link: http.client.HTTPConnection, body: bytes, query: str = "") -> Told:
    link.request("POST", f"/segment?{query}", body, {"Content-Type": "image/png"})
    answer = link.getresponse()
    return answer.status, answer.read()


def once(port: int, body: bytes, query: str = "") -> Told:
    link = http.client.HTTPConnection(HOST, port, timeout=30)
    try:
        return ask(link, body, query)
    finally:
        link.close()


def metrics(port: int) -> str:
    link = http.client.HTTPConnection(HOST, port, timeout=30)
    try:
        link.request("GET", "/metrics")
        return link.getresponse().read().decode()
    finally:
        link.close()


def labels_of(content: bytes, coco: bool, size_hw: tuple[int, ...]) -> np.ndarray:
    if not coco:
        return np.asarray(Image.open(io.BytesIO(content)))
    painted = np.full(size_hw, IGNORE)
    for one in json.loads(content)["annotations"]:
        painted[decode_rle(one["segmentation"])] = one["category_id"] - 1
    return painted


def test_none_of_a_thousand_requests_of_eight_clients_is_lost_or_mixed_up(model: Path, empty: Path):
    shown = pictures()
    segmenter = Segmenter.load(model, "cpu")
    names = [TRAINED if text is None else _names(text) for text in CLASSES]
    wanted, bare_s = {}, []
    for picture, pixels in enumerate(shown):
        for number, classes in enumerate(names):
            began = time.perf_counter()
            wanted[picture, number] = segmenter.predict(pixels, classes).labels
            bare_s.append(time.perf_counter() - began)
    seconds: list[float] = []

    def client(first: int) -> int:
        right = 0
        link = http.client.HTTPConnection(HOST, server.port, timeout=60)
        for number in range(first, REQUESTS, CLIENTS):
            picture, classes = number % len(shown), number // 5 % len(CLASSES)
            coco, text = number % 3 == 0, CLASSES[classes]
            query = f"format={'coco' if coco else 'png'}"
            query += "" if text is None else f"&classes={quote(text)}"
            # every fourth file was sent before, so that its features may be known
            body = png(shown[picture], "" if number % 4 == 0 else str(number))
            began = time.perf_counter()
            status, content = ask(link, body, query)
            seconds.append(time.perf_counter() - began)
            assert status == 200, content
            found = labels_of(content, coco, shown[picture].shape[:2])
            right += np.array_equal(found, wanted[picture, classes])
        link.close()
        return right

    with served(model, empty) as server, ThreadPoolExecutor(CLIENTS) as clients:
        began = time.perf_counter()
        right = sum(clients.map(client, range(CLIENTS)))
        took = time.perf_counter() - began
        known = int(re.findall(r"pictures_known_total (\d+)", metrics(server.port))[0])
    assert right == REQUESTS
    assert 0 < known < REQUESTS / 4
    places = {name: np.percentile(values, (50, 95, 99)) * 1e3
              for name, values in (("served", seconds), ("bare predict", bare_s))}  # fmt: skip
    print(f"\n{REQUESTS / took:.0f} requests/s of {CLIENTS} clients; ms at 50, 95, 99 %:")
    for name, values in places.items():
        print(f"  {name}: {', '.join(f'{value:.1f}' for value in values)}")


def _names(text: str) -> list[list[str]]:
    return [entry.strip().split("=") for entry in text.split(",")]


def test_half_a_body_slow_bodies_and_garbage_end_with_words_and_the_server_goes_on(
    model: Path, empty: Path
):
    body = png(pictures()[0])
    head = (
        "POST /segment HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()
    with served(model, empty, "--timeout", "3", "--at-once", "2", "--max-megabytes", "1") as server:
        process = psutil.Process(server.process.pid)
        status, wanted = once(server.port, body)
        assert status == 200
        before = process.memory_info().rss
        for _ in range(3):
            with socket.create_connection((HOST, server.port), timeout=10) as half:
                half.sendall(head + body[: len(body) // 2])
                until(lambda: "fmbseg_requests_inside 1" in metrics(server.port), 10)
            until(lambda: "fmbseg_requests_inside 0" in metrics(server.port), 10)
        assert 'fmbseg_requests_total{status="499"} 3' in metrics(server.port)
        slow = [socket.create_connection((HOST, server.port), timeout=10) for _ in range(2)]
        for one in slow:
            one.sendall(head + body[:9])
        until(lambda: "fmbseg_requests_inside 2" in metrics(server.port), 10)
        status, told = once(server.port, body)
        assert (status, json.loads(told)["problem"]) == (503, "the server is busy")
        for one in slow:
            assert b" 408 " in one.recv(4096).partition(b"\r\n")[0]
            one.close()
        for garbage in (b"\0" * 999, b"/etc/passwd", body[:99], b"<svg/>" * 999):
            status, told = once(server.port, garbage)
            assert status == 422, told
        with socket.create_connection((HOST, server.port), timeout=10) as link:
            link.sendall(head.replace(str(len(body)).encode(), b"9" * 12))
            assert b" 413 " in link.recv(4096).partition(b"\r\n")[0]
        many = quote(",".join(f"c{i}" for i in range(10_000)), safe=",")
        status, told = once(server.port, body, f"classes={many}")
        assert (status, json.loads(told)["found"]) == (422, "10000 of them")
        status, told = once(server.port, body, "classes=/etc/passwd")
        assert status == 422
        assert process.memory_info().rss - before < 60e6
        opened = {Path(one.path) for one in process.open_files()}
        assert not [path for path in opened if path.is_relative_to(empty) or "passwd" in path.name]
        assert once(server.port, body) == (200, wanted)
    assert left_behind(empty) == []


@pytest.mark.parametrize("ended_by", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_stop_finishes_what_runs_and_no_end_leaves_a_file(
    model: Path, empty: Path, ended_by: signal.Signals
):
    large = png(np.kron(pictures()[0], np.ones((12, 12, 1), np.uint8)))
    many = quote(",".join(f"name {i}" for i in range(120)))
    with served(model, empty) as server, ThreadPoolExecutor(1) as client:
        assert once(server.port, png(pictures()[0]))[0] == 200
        before = set(model.rglob("*"))
        running = client.submit(once, server.port, large, f"classes={many}&confidence=true&"
                                "format=coco")  # fmt: skip
        time.sleep(0.4)
        assert not running.done()
        server.process.send_signal(ended_by)
        if ended_by == signal.SIGKILL:
            with pytest.raises((OSError, http.client.HTTPException)):
                running.result(30)
        else:
            assert running.result(60)[0] == 200
        assert server.process.wait(30) in (0, -ended_by)
    assert left_behind(empty) == []
    assert set(model.rglob("*")) == before
