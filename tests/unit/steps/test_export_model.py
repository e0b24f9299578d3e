"""Which exports of models a workspace knows of."""

from pathlib import Path

import pytest

from fmbseg.steps.export_model import exports_in, note_export


@pytest.fixture
def root(tmp_path: Path, monkeypatch) -> Path:
    root = tmp_path / "project"
    (root / "models" / "train").mkdir(parents=True)
    (root / "params.yaml").write_text("")
    monkeypatch.chdir(tmp_path)
    return root


def test_exports_elsewhere_are_noted_once_and_those_in_their_folder_need_no_note(root, tmp_path):
    trained, inside, outside = root / "models" / "train", root / "exports" / "a", tmp_path / "b"
    inside.mkdir(parents=True)
    for _ in range(2):
        note_export(trained, inside)
        note_export(trained, Path("b"))
    assert exports_in(root) == [inside, outside]


def test_what_comes_from_elsewhere_is_noted_where_the_command_ran(root, tmp_path, monkeypatch):
    fetched = tmp_path / "registry" / "artifacts" / "train"
    fetched.mkdir(parents=True)
    note_export(fetched, tmp_path / "b")
    assert exports_in(root) == []
    monkeypatch.chdir(root)
    note_export(fetched, tmp_path / "b")
    assert exports_in(root) == [tmp_path / "b"]
