import json
from pathlib import Path

import pytest

from fmbseg.datasets import DatasetError, json_stream
from fmbseg.datasets.json_stream import elements_of_arrays

CONTENT = {
    "info": {"text": 'ü "quoted" ] } , [ {', "nested": [[1], {"a": []}]},
    "number": 123456789,
    "images": [{"id": 1, "name": "a\\b"}, {"id": 22, "deep": [[1.5, -2e3], []]}, 12345, "é", None],
    "empty": [],
    "truth": True,
    "annotations": [[1, 2], [], {"counts": "0`]2"}],
}


@pytest.mark.parametrize("chunk", [1, 2, 7, 1 << 20])
@pytest.mark.parametrize("indent", [None, 3])
def test_streaming_gives_what_loading_whole_gives(
    chunk: int, indent: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(json_stream, "_CHUNK", chunk)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(CONTENT, indent=indent, ensure_ascii=False), encoding="utf-8")
    expected = [
        (key, one) for key, value in CONTENT.items() if isinstance(value, list) for one in value
    ]
    assert list(elements_of_arrays(path)) == expected


@pytest.mark.parametrize("cut", [1, 20, 100, 160, 200])
def test_a_cut_file_is_refused(cut: int, tmp_path: Path):
    text = json.dumps(CONTENT)
    path = tmp_path / "a.json"
    path.write_text(text[: len(text) - cut])
    with pytest.raises(DatasetError, match=r"a\.json: not a whole JSON object"):
        list(elements_of_arrays(path))


@pytest.mark.parametrize("text", ["", "[1, 2]", '{"a" [1]}', '{"a": [1 2]}', '{"a": [1], nope}'])
def test_what_is_no_json_object_is_refused(text: str, tmp_path: Path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DatasetError, match="not a whole JSON object"):
        list(elements_of_arrays(tmp_path / "a.json"))
    with pytest.raises(DatasetError, match="no such file"):
        list(elements_of_arrays(tmp_path / "b.json"))
