"""`fmbseg serve` beside a bare `Segmenter.predict`: latency, and what clients at once change.

The server is a process of its own with one thread for torch, as the bare call has. Every request is
a picture of its own, so that no kept features help; `the same again` asks about one picture with
other words each time. Encoders: of the miniature's and of ViT-S/16's shape, with
random weights.
"""

import http.client
import io
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from urllib.parse import quote

import numpy as np
import torch
from PIL import Image

from benchmarks.common import BROKEN, in_turn, pin_threads, ratio_words
from benchmarks.onnx import random_segmenter
from fmbseg.models.vision import TimmVision
from fmbseg.serving.serve import serve
from fmbseg.serving.settings import Limits
from fmbseg.types import Image as Pixels
from fmbseg.vocabulary import Vocabulary

HOST = "127.0.0.1"
NAMES = [f"class {k}" for k in range(14)]
MODELS = {
    "miniature, 128 × 128 px": ("miniature", (128, 128), 64),
    "ViT-S/16, 640 × 480 px": ("vit_small_patch16_224", (480, 640), 16),
}
"""Title to encoder, size of the pictures and number of requests."""
MOST_MS, MOST_SHARE = 15.0, 0.25
"""Promise: over a bare call, HTTP, decoding and the PNG add no more at the median than the larger
of these: ms, and a share of the bare call."""


def main() -> int:
    """Print a row a way of asking, and what batches would gain on a processor."""
    pin_threads()
    kept = True
    print("| what | clients | requests/s | 50 % | 95 % | 99 % |")
    print("|---|---|---|---|---|---|", flush=True)
    for title, (name, size_hw, count) in MODELS.items():
        kept &= _rows(title, name, size_hw, count)
    print()
    for title, (name, size_hw, _) in MODELS.items():
        print(_batches(title, name, size_hw), flush=True)
    return 0 if kept else BROKEN


def _rows(title: str, name: str, size_hw: tuple[int, int], count: int) -> bool:
    pictures = [picture(number, size_hw) for number in range(count)]
    bodies = [png(one) for one in pictures]
    segmenter = random_segmenter(name)
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.serving", name], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline().rsplit(":", 1)[1])
        segmenter.predict(pictures[0], NAMES)
        _ask(port, png(picture(-1, size_hw)))
        bare, served = list[float](), list[float]()
        for pixels, body in zip(pictures, bodies, strict=True):  # in turn: the machine is the same
            bare.append(_seconds(partial(segmenter.predict, pixels, NAMES)))
            served.append(_seconds(partial(_ask, port, body)))
        _row(f"{title}: bare `predict`", 1, bare, sum(bare))
        _row(f"{title}: served", 1, served, sum(served))
        for clients in (4, 8):
            fresh = [png(picture(count * clients + n, size_hw)) for n in range(count)]
            began = time.perf_counter()
            with ThreadPoolExecutor(clients) as some:
                waited = list(some.map(lambda body: _seconds(partial(_ask, port, body)), fresh))
            _row(f"{title}: served", clients, waited, time.perf_counter() - began)
        again = [
            _seconds(partial(_ask, port, bodies[0], f"cat {n % 9}, dog")) for n in range(count)
        ]
        _row(f"{title}: the same again", 1, again, sum(again))
    finally:
        process.terminate()
        process.wait(30)
    alone = statistics.median(bare)
    return statistics.median(served) - alone <= max(MOST_MS / 1e3, MOST_SHARE * alone)


def _row(what: str, clients: int, seconds: Sequence[float], took: float) -> None:
    places = " | ".join(f"{1e3 * one:.1f} ms" for one in np.percentile(seconds, (50, 95, 99)))
    print(f"| {what} | {clients} | {len(seconds) / took:.1f} | {places} |", flush=True)


def _batches(title: str, name: str, size_hw: tuple[int, int]) -> str:
    """What four pictures of one size through the encoder at once take beside one after another."""
    vision = random_segmenter(name).segmentation.vision
    assert isinstance(vision, TimmVision)
    prepared = [vision.prepare(picture(number, size_hw)) for number in range(4)]
    with torch.inference_mode():
        found = in_turn({
            "alone": lambda: [vision._patches([one]) for one in prepared],
            "together": lambda: vision._patches(prepared),
        })  # fmt: skip
    return (
        f"{title}, the encoder alone, four pictures together: "
        f"{ratio_words(found['together'], found['alone'])} of the processor's time that one after "
        "the other takes."
    )


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def _ask(port: int, body: bytes, words: str = "") -> bytes:
    link = http.client.HTTPConnection(HOST, port, timeout=60)
    query = f"?classes={quote(words)}" if words else ""
    link.request("POST", f"/segment{query}", body, {"Content-Type": "image/png"})
    answer = link.getresponse()
    content = answer.read()
    link.close()
    if answer.status != 200:
        raise RuntimeError(f"{answer.status}: {content[:200]!r}")
    return content


def picture(number: int, size_hw: tuple[int, int]) -> Pixels:
    """Coarse noise, another for each number."""
    rng = np.random.default_rng(number + 10**6)
    coarse = rng.integers(0, 255, (size_hw[0] // 16, size_hw[1] // 16, 3), np.uint8)
    return np.kron(coarse, np.ones((16, 16, 1), np.uint8))


def png(pixels: Pixels) -> bytes:
    """Its file."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _serve(name: str) -> int:
    """Serve on a free port, which is printed."""
    pin_threads()

    def ready(address: str) -> None:
        print(address, flush=True)

    serve(random_segmenter(name), Vocabulary(tuple(NAMES)), Limits(), HOST, 0, ready)
    return 0


if __name__ == "__main__":
    sys.exit(_serve(sys.argv[1]) if len(sys.argv) > 1 else main())
