"""`fmbseg preview` of a folder: how long it takes, a kill, and the page that follows a file."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fmbseg.store import file_sha
from scripts.browser import PHONE, WIDE, find_browser, opened
from tests.conftest import REPOSITORY

pytestmark = [pytest.mark.e2e, pytest.mark.weights, pytest.mark.timeout(900)]
FIRST_S, ANOTHER_S = 60, 2


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "fmbseg.cli", *map(str, arguments)]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    subprocess.run(command("miniature", "draw", folder, "--count", 600), check=True)
    return folder / "images"


def started(folder: Path, *arguments: object) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command("preview", *arguments), cwd=folder, text=True, stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip


def until(said: str, process: "subprocess.Popen[str]") -> None:
    for line in process.stdout:
        if line.startswith(said):
            return
    pytest.fail(f"ended without {said!r}")


def test_twenty_images_take_a_minute_and_another_word_two_seconds(images: Path, tmp_path: Path):
    names = ["sky", "grass, lawn", "water", "sand", "road", "brick wall", "car", "house", "tree",
             "boat", "mushroom", "cat", "fish", "umbrella"]  # fmt: skip
    file, version = tmp_path / "classes.txt", tmp_path / "preview" / "version.js"
    file.write_text("\n".join(names))
    began = time.monotonic()
    process = started(tmp_path, images, "--classes", file, "--watch")
    try:
        until("watching", process)
        first = time.monotonic() - began
        took = []
        for word in ("zebra", "automobile", "ship", "parasol", "toadstool"):
            before, began = version.read_text(), time.monotonic()
            file.write_text("\n".join([*names, word]))
            while version.read_text() == before:
                time.sleep(0.02)
                assert time.monotonic() - began < 60
            took.append(time.monotonic() - began)
            assert f">{word}<" in (tmp_path / "preview/index.html").read_text()
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    print(f"\nfirst page {first:.1f} s, another word {', '.join(f'{s:.2f}' for s in took)} s")
    assert first <= FIRST_S
    assert max(took) <= ANOTHER_S


def test_a_preview_killed_twice_goes_on_to_the_same_page(images: Path, tmp_path: Path):
    page = tmp_path / "preview" / "index.html"
    arguments = (images, "--classes", "sky, grass, car, house, tree", "--n", 6)
    assert started(tmp_path, *arguments, "--out", tmp_path / "whole").wait(300) == 0
    for wanted in (2, 4):
        process = started(tmp_path, *arguments)
        while len(list((tmp_path / "preview").rglob("[0-9a-f]*.safetensors"))) < wanted:
            assert process.poll() is None
            time.sleep(0.01)
        process.kill()
        process.wait(30)
        assert not page.exists()
    kept = {path: file_sha(path) for path in (tmp_path / "preview").rglob("[0-9a-f]*.safetensors")}
    assert started(tmp_path, *arguments).wait(300) == 0
    assert page.read_bytes() == (tmp_path / "whole" / "index.html").read_bytes()
    assert all(file_sha(path) == sha for path, sha in kept.items())


def test_an_open_page_follows_the_file_and_fits_a_phone(images: Path, tmp_path: Path):
    browser = find_browser()
    if browser is None:
        pytest.skip("no browser on the PATH")
    file = tmp_path / "classes.txt"
    file.write_text("sky\ngrass\ncar\n")
    process = started(tmp_path, images, "--classes", file, "--watch", "--n", 4)
    try:
        until("watching", process)
        with opened(browser) as shown:
            for size_wh in (WIDE, PHONE):
                shown.open((tmp_path / "preview" / "index.html").as_uri(), size_wh)
                assert shown.run("document.documentElement.scrollWidth") == size_wh[0]
            shown.run("document.querySelector('details').open = true")
            time.sleep(2.5)
            assert shown.run("document.querySelector('details').open"), "nothing new, no reload"
            file.write_text("sky\ngrass\n<b>zebra</b>\n")
            shown.until("document.body?.innerText.includes('<b>zebra</b>')", 10)
            file.write_text("sky\n,\n")
            shown.until("document.body.innerText.includes('cannot be used as it is now')", 10)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
