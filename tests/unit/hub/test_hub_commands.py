"""Commands that take a published model by its name on a hub."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fmbseg import Segmenter
from fmbseg.cli import main
from fmbseg.store import read_json
from tests.support.hub_server import HubServer
from tests.support.trained_folder import CLASSES
from tests.unit.hub.test_hub import REPO, picture, push


def test_the_command_line_predicts_with_a_published_model(
    hub: HubServer, trained: Path, tmp_path: Path, capsys
):
    push(trained)
    Image.fromarray(picture()).save(tmp_path / "one.png")
    model = ["--model", f"hf-hub:{REPO}", "--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main(["predict", str(tmp_path / "one.png"), "--classes", "sky, grass", *model]) == 0
    assert (tmp_path / "out" / "one.png").is_file()


def test_a_published_model_is_served(hub: HubServer, trained: Path, monkeypatch, capsys):
    seen: dict[str, Any] = {}

    def serve(segmenter, own, limits, host, port, ready):
        seen.update(classes=own.names, answer=segmenter.predict(picture(), CLASSES).labels)
        ready("http://127.0.0.1:1/")

    push(trained)
    monkeypatch.setattr("fmbseg.serving.serve.serve", serve)
    assert main(["serve", f"hf-hub:{REPO}", "--device", "cpu", "--port", "0"]) == 0
    assert seen["classes"] == CLASSES
    wanted = Segmenter.load(trained, "cpu").predict(picture(), CLASSES).labels
    assert np.array_equal(seen["answer"], wanted)
    assert f"serving hf-hub:{REPO} (6 classes): http://127.0.0.1:1/" in capsys.readouterr().out


def test_a_published_model_is_exported_as_the_trained_one_that_it_was(
    hub: HubServer, trained: Path, tmp_path: Path, monkeypatch
):
    """What is traced is the folder that this looks at; tests/unit/model_export traces one."""
    seen: dict[str, Any] = {}

    def run_into(folder, vocabulary, plan, out):
        shutil.copytree(folder, out)
        seen.update(classes=vocabulary.names, registered=plan.registered)
        facts = {"bytes": 1, "licences": {}}
        (out / "model.json").write_text(json.dumps(facts))
        return True

    push(trained)
    commit = hub.repositories[REPO].refs["main"]
    monkeypatch.setattr("fmbseg.steps.export_model.run_into", run_into)
    out = tmp_path / "out"
    words = ["--classes", "sky, grass", "--out", str(out)]
    assert main(["export-model", f"hf-hub:{REPO}", *words]) == 0
    assert seen == {"classes": ("sky", "grass"), "registered": f"hf-hub:{REPO}@{commit}"}
    for name in ("alignment.safetensors", "alignment.json"):
        assert (out / name).read_bytes() == (trained / name).read_bytes()
    said, trains = (read_json(folder / "segmenter.json") for folder in (out, trained))
    assert {key: said[key] for key in trains} == trains
    wanted = Segmenter.load(trained, "cpu").predict(picture(), CLASSES).labels
    assert np.array_equal(Segmenter.load(out, "cpu").predict(picture(), CLASSES).labels, wanted)


def test_an_export_says_what_is_no_model(hub: HubServer, tmp_path: Path, capsys):
    words = ["--classes", "sky, grass", "--out", str(tmp_path / "out")]
    assert main(["export-model", "hf-hub:owner/nothing", *words]) == 2
    assert "hf-hub:owner/nothing: not fetched" in capsys.readouterr().err
    assert main(["export-model", str(tmp_path), *words]) == 2
    assert f"no trained model in {tmp_path}" in capsys.readouterr().err
