"""Weights of small architectures where their packages look for official ones."""

import pytest

from tests.support.official_weights import (
    CLIP,
    save_clip,
    save_sam,
    save_vision,
    small_architectures,
)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home without any weights, and no network."""
    small_architectures(monkeypatch, tmp_path)
    monkeypatch.setattr("socket.socket.connect", forbidden)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def forbidden(*args, **kwargs):
    raise AssertionError("the network was tried")


@pytest.fixture
def weights(home, monkeypatch):
    """All three models of a profile of small architectures, each where its package looks."""
    clip, sam, (vision, encoder) = save_clip(home), save_sam(home, monkeypatch), save_vision(home)
    overrides = {"clip": {"name": CLIP}, "sam": {"name": "vit_b"}, "vision": {"name": vision}}
    return overrides, {"clip": clip, "sam": sam, "vision": encoder}
