"""`fmbseg serve`: what it takes, and what it says before it loads a model."""

import pytest

from fmbseg.cli import main
from fmbseg.methods.aligned import AlignedSegmentation
from fmbseg.segmenter import Segmenter
from fmbseg.serving import serve as module
from fmbseg.serving.settings import Limits
from fmbseg.web.listening import is_loopback
from tests.support.method_fakes import NAMES, ColourClip, ColourVision, identity_head


@pytest.fixture
def started(monkeypatch):
    """What the server was started with."""
    method = AlignedSegmentation(ColourVision(), identity_head(), ColourClip())
    found: dict[str, object] = {}

    def serve(segmenter, own, limits, host, port, ready):
        ready(f"http://{host}:{port}")
        found.update(own=own, limits=limits, host=host, port=port)

    monkeypatch.setattr(Segmenter, "load", staticmethod(lambda *_, **__: Segmenter(method, NAMES)))
    monkeypatch.setattr(module, "serve", serve)
    return found


def test_without_options_it_serves_the_training_s_classes_on_this_machine(started, capsys):
    assert main(["serve"]) == 0
    assert started["own"].names == tuple(NAMES)
    assert (started["host"], started["limits"]) == ("127.0.0.1", Limits())
    said = capsys.readouterr()
    assert "models/train (3 classes): http://127.0.0.1:8321" in said.out
    assert said.err == ""


def test_its_options_are_classes_limits_and_an_address(started, capsys):
    options = ["--classes", "sky=heaven, tree", "--port", "0", "--host", "0.0.0.0",
               "--max-megapixels", "2.5", "--max-classes", "9", "--at-once", "3", "--timeout", "5",
               "--max-megabytes", "7"]  # fmt: skip
    assert main(["serve", "models/train", *options]) == 0
    assert started["own"].groups == (("sky", "heaven"), ("tree",))
    limits = Limits(max_megapixels=2.5, max_classes=9, at_once=3, timeout=5, max_megabytes=7)
    assert started["limits"] == limits
    assert "it asks for no password" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--max-classes", "256", "--max-classes: input should be less than or equal to 255"),
        ("--max-megapixels", "101", "--max-megapixels: input should be less"),
        ("--timeout", "0", "--timeout: input should be greater than 0"),
        ("--at-once", "0", "--at-once: input should be greater"),
        ("--classes", "missing.txt", "--classes: 'missing.txt' looks like a file"),
        ("--port", "99999", "--port: found 99999"),
    ],
)
def test_a_bad_option_is_one_line_before_anything_is_loaded(capsys, option, value, words):
    assert main(["serve", option, value]) == 2
    assert words in capsys.readouterr().err


def test_loopback_is_told_from_other_addresses():
    assert all(map(is_loopback, ("127.0.0.1", "127.9.9.9", "::1", "localhost")))
    assert not any(map(is_loopback, ("0.0.0.0", "192.168.0.2", "example.org", "::")))
