import json
from pathlib import Path

import pytest

from fmbseg.datasets import DatasetError
from fmbseg.datasets.json_stream import elements_of

CONTENT = {
    "info": {"text": 'ü "quoted" ] } , [ {', "nested": [[1], {"images": [9]}], "images": [8]},
    "number": 123456789,
    "images": [{"id": 1, "name": "a\\b"}, {"id": 22, "deep": [[1.5, -2e3], []]}, 12345, "é", None],
    "empty": [],
    "truth": True,
    "annotations": [[1, 2], [], {"counts": "0`]2"}],
}


@pytest.mark.parametrize("indent", [None, 3])
@pytest.mark.parametrize("key", ["images", "empty", "annotations", "no such key"])
def test_streaming_gives_what_loading_whole_gives(indent: int | None, key: str, tmp_path: Path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(CONTENT, indent=indent, ensure_ascii=False), encoding="utf-8")
    assert list(elements_of(path, key)) == CONTENT.get(key, [])


@pytest.mark.parametrize("cut", [1, 20, 100, 160, 200])
@pytest.mark.parametrize("key", ["images", "annotations"])
def test_a_cut_file_is_refused(cut: int, key: str, tmp_path: Path):
    text = json.dumps(CONTENT)
    path = tmp_path / "a.json"
    path.write_text(text[: len(text) - cut])
    with pytest.raises(DatasetError, match=r"a\.json: not a whole JSON file"):
        list(elements_of(path, key))


@pytest.mark.parametrize(
    "text",
    ["", '{"a" [1]}', '{"a": [1 2]}', '{"a": [1], nope}', '{"a": [1]} more', '{"a": ["\xff"]}'],
)
def test_what_is_no_json_is_refused(text: str, tmp_path: Path):
    (tmp_path / "a.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(DatasetError, match="not a whole JSON file") as caught:
        list(elements_of(tmp_path / "a.json", "a"))
    assert "\n" not in str(caught.value)
    with pytest.raises(DatasetError, match="no such file"):
        list(elements_of(tmp_path / "b.json", "a"))
