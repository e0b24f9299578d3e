"""The MLflow model behind MLflow's own scoring server: what any client can and cannot do."""

import base64
import io
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from mlflow.models import Model, validate_serving_input
from mlflow.pyfunc import scoring_server
from PIL import Image

from fmbseg.evaluate.protocol import protocol_named
from fmbseg.methods.aligned import AlignedSegmentation
from fmbseg.segmenter import Segmenter
from fmbseg.steps import train
from fmbseg.steps.workspace import Workspace
from fmbseg.store import decode_rle
from fmbseg.types import IGNORE
from fmbseg.vocabulary import read_classes
from tasks.tracking.mlflow_client import model as tracking_model
from tasks.tracking.mlflow_client import segmenter_model
from tests.support.trained_folder import TRAINED, trained_folder

pytestmark = pytest.mark.weights

Post = Callable[..., tuple[int, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained folder of the miniature with synonyms, its weights random."""
    return trained_folder(tmp_path_factory.mktemp("trained"), vocabulary=TRAINED)


@pytest.fixture(scope="module")
def saved(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The model as the pipeline saves it."""
    path = tmp_path_factory.mktemp("model") / "model"
    mlflow.pyfunc.save_model(
        path=str(path), python_model=str(tracking_model._CODE),
        artifacts={tracking_model.ARTIFACT: str(folder)},
        signature=tracking_model._signature(folder),
        input_example=tracking_model._example(), pip_requirements=tracking_model._requirements(),
    )  # fmt: skip
    return str(path)


@pytest.fixture(scope="module")
def app(saved: str) -> TestClient:
    """MLflow's own app around it."""
    return TestClient(scoring_server.init(mlflow.pyfunc.load_model(saved)))


@pytest.fixture
def post(app: TestClient) -> Post:
    """Send pictures (base64 text) with params, for plain numbers; status and JSON of the answer."""

    def send(*cells: object, key: str = "dataframe_split", **params: object) -> tuple[int, Any]:
        params = {"format": "labels", **params}
        data: Any = {"columns": ["image"], "data": [[cell] for cell in cells]}
        if key == "inputs":
            data = {"image": list(cells)}
        answer = app.post("/invocations", json={key: data, "params": params})
        return answer.status_code, answer.json()

    return send


def png(height: int = 24, width: int = 32) -> bytes:
    rng, file = np.random.default_rng(0), io.BytesIO()
    pixels = rng.integers(0, 255, (height, width, 3), np.uint8)
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def refused(answer: tuple[int, Any]) -> str:
    """The one line of a 400 without a trace."""
    status, body = answer
    assert status == 400, body
    assert "stack_trace" not in body
    assert "Traceback" not in json.dumps(body)
    assert "\n" not in body["message"]
    return str(body["message"])


def test_a_picture_in_base64_is_labelled_with_the_training_s_names_and_synonyms(
    post: Post, folder: Path
):
    segmenter = Segmenter.load(folder, "cpu")
    assert segmenter.trained_vocabulary == TRAINED
    pixels = np.asarray(Image.open(io.BytesIO(png())))
    expected = segmenter.predict(pixels, TRAINED).labels.tolist()
    assert expected != segmenter.predict(pixels, TRAINED.names).labels.tolist()
    assert post(b64(png())) == (200, {"predictions": [expected]})
    assert post(b64(png()), key="inputs") == (200, {"predictions": [expected]})
    expected = segmenter.predict(pixels, [("car", "taxi", "van"), "sea"]).labels.tolist()
    status, body = post(b64(png()), classes=["car, taxi; van", "sea"])
    assert (status, body["predictions"]) == (200, [expected])


def test_a_client_can_ask_for_none_of_these(post: Post, folder: Path):
    segmenter = Segmenter.load(folder, "cpu")
    pixels = np.asarray(Image.open(io.BytesIO(png())))
    wanted = segmenter.predict(pixels, ["car"], background=["sea", "sky"]).labels
    _, body = post(b64(png()), classes=["car"], background=["sea", "sky"])
    assert body["predictions"] == [wanted.tolist()]
    _, body = post(b64(png()), classes=["car"], min_similarity=1.0)
    assert np.unique(body["predictions"]).tolist() == [IGNORE]


def test_the_answer_is_a_png_or_on_request_run_lengths_or_a_number_a_pixel(
    post: Post, app: TestClient
):
    _, body = post(b64(png()), classes=["car", "sea"], min_similarity=0.0)
    labels = np.array(body["predictions"][0])
    params = {"classes": ["car", "sea"], "min_similarity": 0.0}
    data = {"columns": ["image"], "data": [[b64(png())]]}
    unasked = app.post("/invocations", json={"dataframe_split": data, "params": params}).json()
    _, body = post(b64(png()), format="png", **params)
    assert unasked == body
    picture = Image.open(io.BytesIO(base64.b64decode(body["predictions"][0])))
    assert np.array_equal(np.asarray(picture), labels)
    _, body = post(b64(png()), classes=["car", "sea"], min_similarity=0.0, format="rle")
    painted = np.full(labels.shape, IGNORE)
    for one in body["predictions"][0]:
        painted[decode_rle(one["segmentation"])] = one["category_id"] - 1
    assert np.array_equal(painted, labels)
    assert len(json.dumps(body)) < len(json.dumps(labels.tolist()))


def test_signature_params_and_example_are_what_mlflow_s_own_validation_expects(
    saved: str, folder: Path
):
    answer = validate_serving_input(saved, Model.load(saved).get_serving_input(saved))
    pixels = np.asarray(Image.open(io.BytesIO(tracking_model._example()["image"][0])))
    found = np.asarray(Image.open(io.BytesIO(base64.b64decode(answer[0]))))
    assert np.array_equal(found, Segmenter.load(folder, "cpu").predict(pixels, TRAINED).labels)
    defaults = {one.name: one.default for one in Model.load(saved).signature.params}
    assert defaults == {
        "classes": list(TRAINED.lines()), "background": [], "min_similarity": -1.0,
        "format": "png",
    }  # fmt: skip


def test_a_path_in_the_column_is_never_opened_and_nobody_learns_whether_it_exists(
    post: Post, app: TestClient, tmp_path: Path
):
    there = tmp_path / "there.png"
    there.write_bytes(png())
    paths = [str(there), str(tmp_path / "absent.png"), "/etc/passwd", "file:///etc/passwd",
             "http://127.0.0.1:1/a.png", there.name, "params.yaml"]  # fmt: skip
    for path in paths:
        message = refused(post(path))
        assert path not in message
    tables = [f"image\n{path}\n" for path in paths]
    answers = [
        app.post("/invocations", content=table, headers={"content-type": "text/csv"})
        for table in tables
    ]
    told = {refused((answer.status_code, answer.json())) for answer in answers}
    assert told == {
        "picture 1: found text that is no base64; wanted the bytes of a picture or base64 of them; "
        "paths and addresses are never opened"
    }
    messages = set()
    for place in (there, tmp_path / "gone!.png"):
        with pytest.raises(segmenter_model.RequestError) as caught:
            segmenter_model._bytes_of(str(place), 1)
        messages.add(caught.value.message)
    assert len(messages) == 1


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        (b64(b""), "picture 1: empty file"),
        (b64(b"<svg/>"), "not a picture in a known format (found SVG, HTML or other markup"),
        (b64(png()[:60]), "picture 1: cannot be decoded"),
    ],
)
def test_what_is_no_picture_is_one_line_and_400(post: Post, cell: str, words: str):
    assert words in refused(post(cell))


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"classes": []}, "classes: the class list is empty"),
        ({"classes": ["sky", "Sky"]}, "classes: 'Sky' is given twice"),
        ({"classes": ["sky,"]}, "an empty name"),
        ({"classes": ["sky\u202e"]}, "U+202E"),
        ({"classes": ["x" * 201]}, "wanted at most 200"),
        ({"classes": [f"c{i}" for i in range(256)]}, "found more than 255 names"),
        ({"classes": ["sky"], "background": ["sky"]}, "given twice"),
        ({"min_similarity": 7.0}, "min_similarity: found 7; wanted a cosine"),
        ({"format": "/etc/passwd"}, "wanted one of png, rle, labels"),
    ],
)
def test_bad_names_and_numbers_are_one_line_and_400(post: Post, params: dict[str, Any], words: str):
    assert words in refused(post(b64(png()), **params))


@pytest.mark.parametrize(
    ("limit", "value", "cells", "words"),
    [
        ("FMBSEG_SERVE_MAX_IMAGES", "2", 3, "found 3 pictures; wanted at most 2 in a request"),
        ("FMBSEG_SERVE_MAX_MEGABYTES", "0.004", 2, "picture 2: found more than 0.004 MB"),
        ("FMBSEG_SERVE_MAX_MEGAPIXELS", "0.001", 2, "picture 2: 32x24 px is more than the limit"),
        ("FMBSEG_SERVE_MAX_CLASSES", "1", 1, "found more than 1 names"),
    ],
)
def test_a_request_has_limits_that_the_server_s_environment_sets(
    post: Post, monkeypatch: pytest.MonkeyPatch, limit: str, value: str, cells: int, words: str
):
    asked = [b64(png())] * cells
    assert post(*asked, classes=["sky", "sea"])[0] == 200
    monkeypatch.setenv(limit, value)
    assert words in refused(post(*asked, classes=["sky", "sea"]))


def test_a_fault_of_ours_reaches_the_log_and_no_client(
    post: Post, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def broken(*_: object, **__: object) -> None:
        raise OSError(2, "No such file", "/secret/place")

    monkeypatch.setattr(Segmenter, "predict", broken)
    with caplog.at_level(logging.ERROR):
        status, body = post(b64(png()))
    assert status == 500
    assert body == {
        "error_code": "INTERNAL_ERROR", "message": "the segmenter failed; see the server's log"
    }  # fmt: skip
    assert "/secret/place" in caplog.text


@pytest.mark.slow
def test_text_features_of_training_evaluation_predict_and_the_mlflow_model_are_the_same(
    small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shutil.copytree(small_run, tmp_path / "run", ignore=shutil.ignore_patterns(".scratch"))
    workspace = Workspace.open(tmp_path / "run")
    file = workspace.classes_path()
    lines = file.read_text().split("\n")
    file.write_text("\n".join([f"{lines[0]}, heavens; firmament", *lines[1:]]))
    vocabulary = read_classes(file)
    assert vocabulary.synonyms[0] == ("heavens", "firmament")
    told = []

    def listen(features: object, labels: object, texts: torch.Tensor, *_: Any, **__: Any) -> None:
        told.append(texts)
        raise InterruptedError

    monkeypatch.setattr("fmbseg.steps.training.train_alignment", listen)
    with pytest.raises(InterruptedError):
        train.run(workspace)
    segmenter = Segmenter.load(small_run / "models" / "train", "cpu")
    told.append(segmenter.segmentation.encode_names(vocabulary))

    model = segmenter_model.SegmenterModel()
    model._segmenter = segmenter
    asked, _ = model._names({"classes": list(vocabulary.lines())}, 255)
    assert asked == vocabulary
    told.append(segmenter.segmentation.encode_names(asked))

    synonyms = dict(zip(vocabulary.names, vocabulary.synonyms, strict=True))
    evaluated = protocol_named("whole").segmenter_for(segmenter.segmentation, synonyms)
    assert isinstance(evaluated, AlignedSegmentation)
    told.append(evaluated.encode_names(vocabulary.names))
    for texts in told[1:]:
        assert torch.equal(texts, told[0])
