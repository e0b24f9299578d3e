"""`mlflow models serve` and MLflow's own predictions of the saved model, as processes."""

import base64
import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow.models
import mlflow.pyfunc
import numpy as np
import pytest
from PIL import Image

from fmbseg.segmenter import Segmenter
from fmbseg.store import decode_rle
from tasks.tracking.mlflow_client import model as tracking_model
from tests.support.opened_files import watch
from tests.support.running_server import until
from tests.support.trained_folder import TRAINED, trained_folder

pytestmark = [pytest.mark.weights, pytest.mark.e2e]

HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_folder(tmp_path_factory.mktemp("trained"), vocabulary=TRAINED)


@pytest.fixture(scope="module")
def saved(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("model") / "model"
    mlflow.pyfunc.save_model(
        path=str(path), python_model=str(tracking_model._CODE),
        artifacts={tracking_model.ARTIFACT: str(folder)},
        signature=tracking_model._signature(folder),
        input_example=tracking_model._example(), pip_requirements=tracking_model._requirements(),
    )  # fmt: skip
    return str(path)


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (48, 64, 3), np.uint8)


def b64(pixels: np.ndarray) -> str:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def labels(answer: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(answer))))


def ask(port: int, cell: str, **params: object) -> tuple[int, Any]:
    link = http.client.HTTPConnection(HOST, port, timeout=60)
    data = {"columns": ["image"], "data": [[cell]]}
    body = json.dumps({"dataframe_split": data, "params": params})
    try:
        link.request("POST", "/invocations", body, {"Content-Type": "application/json"})
        answer = link.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        link.close()


def answers(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex((HOST, port)) == 0


def test_mlflow_serves_png_and_run_lengths_and_opens_no_path_of_a_client(
    saved: str, folder: Path, tmp_path: Path
):
    with socket.socket() as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    (tmp_path / "watch").mkdir()
    variables, log = watch(tmp_path / "watch")
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", saved, "-p", str(port),
               "-h", HOST, "--env-manager", "local", "--workers", "1"]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, **variables, "MLFLOW_DISABLE_TELEMETRY": "true"},
        start_new_session=True,
    )  # fmt: skip
    try:
        until(lambda: answers(port) or process.poll() is not None, 240)
        wanted = Segmenter.load(folder, "cpu").predict(picture(), ["sky", "sea"]).labels
        status, body = ask(port, b64(picture()), classes=["sky", "sea"])
        assert status == 200, body
        assert np.array_equal(labels(body["predictions"][0]), wanted)
        status, body = ask(port, b64(picture()), classes=["sky", "sea"], format="rle")
        painted = np.full(wanted.shape, 255)
        for one in body["predictions"][0]:
            painted[decode_rle(one["segmentation"])] = one["category_id"] - 1
        assert np.array_equal(painted, wanted)
        there = tmp_path / "secret.png"
        there.write_bytes(base64.b64decode(b64(picture())))
        before = len(log.read_text().splitlines())
        paths = (str(there), f"file://{there}", "/etc/passwd", "secret.png")
        for path in paths:
            status, body = ask(port, path)
            assert status == 400, body
            assert "\n" not in body["message"]
        opened = log.read_text().splitlines()
        assert before > 100, "nothing is written down"
        assert [one for one in opened[before:] if "secret" in one or "passwd" in one] == []
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(30)
    until(lambda: not answers(port), 20)


def test_mlflow_s_own_check_of_a_model_before_it_is_deployed_passes(
    saved: str, folder: Path, tmp_path: Path
):
    asked, out = tmp_path / "asked.json", tmp_path / "answer.json"
    asked.write_text(mlflow.models.Model.load(saved).get_serving_input(saved))
    mlflow.models.predict(
        saved, env_manager="local", input_path=str(asked), output_path=str(out)
    )  # fmt: skip
    (answer,) = json.loads(out.read_text())["predictions"]
    pixels = Image.open(io.BytesIO(tracking_model._example()["image"][0])).convert("RGB")
    wanted = Segmenter.load(folder, "cpu").predict(pixels, TRAINED).labels
    assert np.array_equal(labels(answer), wanted)
