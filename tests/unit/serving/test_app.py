"""The server of a model: its answers are the model's, and whatever else is sent is refused."""

import asyncio
import io
import json
import threading
from urllib.parse import unquote, urlencode

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from fmbseg.methods.aligned import AlignedSegmentation
from fmbseg.pictures.colours import palette
from fmbseg.segmenter import Segmenter
from fmbseg.serving import app as module
from fmbseg.serving.app import serving_app
from fmbseg.serving.settings import Limits
from fmbseg.store import decode_rle
from fmbseg.types import IGNORE
from fmbseg.vocabulary import Vocabulary
from tests.support.method_fakes import NAMES, ColourClip, ColourVision, identity_head, image

OWN = Vocabulary(tuple(NAMES))
PNG = {"Content-Type": "image/png"}
ADDRESS = "http://127.0.0.1:8000"


@pytest.fixture
def segmenter():
    method = AlignedSegmentation(ColourVision(), identity_head(), ColourClip())
    return Segmenter(method, NAMES, temperature=0.2)


def client(segmenter, **limits):
    app = serving_app(segmenter, OWN, Limits(**limits))
    return TestClient(app, base_url=ADDRESS, headers=PNG, raise_server_exceptions=False)


def png(pixels=None):
    file = io.BytesIO()
    Image.fromarray(image() if pixels is None else pixels).save(file, "PNG")
    return file.getvalue()


def opened(answer):
    assert answer.status_code == 200, answer.text
    return Image.open(io.BytesIO(answer.content))


def refused(answer, status):
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"problem", "found", "wanted"}
    assert answer.headers["x-content-type-options"] == "nosniff"
    return " ".join(answer.json().values())


def test_label_map_overlay_and_confidence_are_those_of_predict(segmenter):
    server = client(segmenter)
    wanted = segmenter.predict(image(), OWN, scores=True)
    answer = server.post("/segment", content=png())
    found = opened(answer)
    assert found.mode == "P"
    assert np.array_equal(np.asarray(found), wanted.labels)
    assert np.array_equal(found.getpalette()[: 3 * len(OWN)], palette(len(OWN)).ravel())
    assert json.loads(unquote(answer.headers["x-classes"])) == list(NAMES)
    sure = opened(server.post("/segment?format=confidence", content=png()))
    assert np.abs(np.asarray(sure) / 65535 - wanted.confidence).max() < 1e-5
    shown = opened(server.post("/segment?format=overlay", content=png()))
    assert shown.mode == "RGB"
    assert shown.height > image().shape[0]


def test_coco_has_the_same_pixels_and_the_mean_confidence_of_each_class(segmenter):
    query = {"classes": f"{NAMES[0]}=crimson, {NAMES[1]}", "format": "coco", "confidence": "true"}
    found = client(segmenter).post("/segment", params=query, content=png()).json()
    wanted = segmenter.predict(image(), [(NAMES[0], "crimson"), NAMES[1]], scores=True)
    assert [one["name"] for one in found["categories"]] == list(NAMES[:2])
    assert found["categories"][0]["synonyms"] == ["crimson"]
    painted = np.full(wanted.labels.shape, IGNORE)
    for one in found["annotations"]:
        inside = decode_rle(one["segmentation"])
        painted[inside] = one["category_id"] - 1
        assert one["area"] == inside.sum()
        assert one["score"] == pytest.approx(wanted.confidence[inside].mean(), abs=1e-6)
    assert np.array_equal(painted, wanted.labels)


def test_background_and_a_least_similarity_leave_pixels_without_a_class(segmenter):
    server = client(segmenter)
    query = {"classes": NAMES[0], "background": ",".join(NAMES[1:])}
    wanted = segmenter.predict(image(), NAMES[:1], background=NAMES[1:]).labels
    assert (wanted == IGNORE).any()
    assert np.array_equal(
        np.asarray(opened(server.post("/segment", params=query, content=png()))), wanted
    )
    none = server.post("/segment?min_similarity=1&format=coco", content=png()).json()
    least = segmenter.predict(image(), OWN, min_similarity=1.0).labels
    assert sum(one["area"] for one in none["annotations"]) == (least != IGNORE).sum()


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"classes": ""}, "the class list is empty"),
        ({"classes": "sky, Sky"}, "given twice"),
        ({"classes": "x" * 201}, "wanted at most 200"),
        ({"classes": "sky\u202e"}, "U+202E"),
        ({"classes": "a=b=c=,"}, "empty name"),
        ({"classes": ",".join(f"{i:x}" for i in range(10_000))}, "10000 of them at most 255"),
        ({"classes": "=".join(f"{i:x}" for i in range(10_000))}, "10000 of them at most 2040"),
        ({"classes": "/etc/passwd"}, "looks like a file; wanted a class name"),
        ({"classes": "..\\secrets"}, "the server opens no file"),
        ({"classes": "classes.txt"}, "the server opens no file"),
        ({"classes": "sky", "background": "sky"}, "given twice"),
        ({"min_similarity": "7"}, "min_similarity 7"),
        ({"min_similarity": "nan"}, "min_similarity nan"),
        ({"format": "/etc/passwd"}, "format /etc/passwd"),
        ({"confidence": "true"}, "format=confidence"),
        ({"class": "sky"}, "class sky"),
    ],
)
def test_a_bad_query_is_one_short_line_each(segmenter, query, words):
    address = f"/segment?{urlencode(query, safe=',=')}"
    said = refused(client(segmenter).post(address, content=png()), 422)
    assert words in said
    assert len(said) < 700


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "empty file"),
        (b"/etc/passwd", "found text"),
        (b"<svg/>", "SVG"),
        (bytes(range(256)) * 9, "not a picture"),
        (png()[:60], "cannot be decoded"),
        (png(np.zeros((200, 300, 3), np.uint8)), "300x200 px is more than the limit"),
    ],
)
def test_what_is_no_picture_or_too_large_a_one_is_refused(segmenter, body, words):
    server = client(segmenter, max_megapixels=0.02)
    assert words in refused(server.post("/segment", content=body), 422)


def test_a_body_may_have_so_many_bytes_announced_or_not_and_has_to_be_an_image(segmenter):
    server = client(segmenter, max_megabytes=0.001)
    large = server.post("/segment", content=b"x" * 1001)
    assert "more than 1000 bytes" in refused(large, 413)
    assert large.headers["connection"] == "close"
    parts = (b"x" * 100 for _ in range(11))
    assert "more than 1000 bytes" in refused(server.post("/segment", content=parts), 413)
    for kind in ("text/plain", "application/json", "multipart/form-data; boundary=x"):
        answer = server.post("/segment", content=png(), headers={"Content-Type": kind})
        assert "image/jpeg" in refused(answer, 415)


def test_a_body_that_does_not_come_is_waited_for_so_long(segmenter, monkeypatch):
    async def slow(*_):
        await asyncio.sleep(9)

    monkeypatch.setattr(module, "read_body", slow)
    server = client(segmenter, timeout=0.05, at_once=1)
    for _ in range(2):  # the place is free again
        assert "within 0.05 s" in refused(server.post("/segment", content=png()), 408)


def test_who_finds_no_place_is_told_when_to_come_again_and_who_waits_too_long_is_told(
    segmenter, monkeypatch
):
    held, predict = threading.Event(), segmenter.predict

    def slow(*given, **more):
        held.wait(9)
        return predict(*given, **more)

    monkeypatch.setattr(segmenter, "predict", slow)
    with client(segmenter, at_once=1, timeout=0.2) as server:
        assert "more than 0.2 s" in refused(server.post("/segment", content=png()), 504)
        busy = server.post("/segment", content=png())  # what is computed keeps its place
        assert "busy" in refused(busy, 503)
        assert int(busy.headers["retry-after"]) >= 1
        assert "fmbseg_requests_inside 1" in server.get("/metrics").text
        held.set()
        answers = (server.post("/segment", content=png()).status_code for _ in range(1000))
        assert 200 in answers


def test_a_fault_is_for_the_log_alone(segmenter, monkeypatch):
    def broken(*_, **__):
        raise OSError(2, "No such file", "/secret/place")

    monkeypatch.setattr(segmenter, "predict", broken)
    said = refused(client(segmenter).post("/segment", content=png()), 500)
    assert "secret" not in said


def test_a_model_without_a_temperature_knows_no_confidence(segmenter):
    segmenter.temperature = None
    answer = client(segmenter).post("/segment?format=confidence", content=png())
    assert "temperature" in refused(answer, 422)


def test_classes_health_and_the_openapi_document_say_what_there_is(segmenter):
    server = client(segmenter)
    listed = server.get("/classes").json()
    assert [one["name"] for one in listed["classes"]] == list(NAMES)
    assert listed["classes"][0]["colour"] == "#{:02x}{:02x}{:02x}".format(*palette(1)[0])
    assert server.get("/healthz").json() == {"status": "ok"}
    paths = server.get("/openapi.json").json()["paths"]
    assert set(paths) == {"/segment", "/classes", "/healthz", "/metrics"}
    post = paths["/segment"]["post"]
    assert "image/jpeg" in post["requestBody"]["content"]
    assert {one["name"] for one in post["parameters"]} == {
        "classes", "background", "min_similarity", "format", "confidence"
    }  # fmt: skip
    example = post["responses"]["200"]["content"]["application/json"]["example"]
    assert decode_rle(example["annotations"][0]["segmentation"]).sum() == 6
    assert {"408", "413", "415", "422", "503", "504"} <= set(post["responses"])


def test_metrics_count_requests_seconds_and_pixels(segmenter):
    server = client(segmenter)
    for body in (png(), png(), b"no"):
        server.post("/segment", content=body)
    said = dict(
        line.rsplit(" ", 1)
        for line in server.get("/metrics").text.splitlines()
        if not line.startswith("#")
    )
    assert said['fmbseg_requests_total{status="200"}'] == "2"
    assert said['fmbseg_requests_total{status="422"}'] == "1"
    assert said['fmbseg_request_seconds_bucket{le="+Inf"}'] == "3"
    assert said["fmbseg_pixels_total"] == str(2 * image().shape[0] * image().shape[1])
    assert said["fmbseg_requests_inside"] == "0"


def test_other_names_of_this_machine_and_other_addresses_are_refused(segmenter):
    server = client(segmenter)
    assert server.get("/healthz", headers={"Host": "evil.example"}).status_code == 400
    for path in ("/etc/passwd", "/../params.yaml", "/%2e%2e/params.yaml", "/docs", "/app.py"):
        refused(server.get(path), 404)
    refused(server.get("/segment"), 405)
    assert "access-control-allow-origin" not in server.get("/classes").headers


def test_examples_are_pictures_with_words_that_can_be_asked_for(segmenter):
    server = client(segmenter)
    offered = server.get("/examples").json()["examples"]
    assert len(offered) == 4
    for one in offered:
        shown = opened(server.get(f"/{one['address']}"))
        assert (shown.mode, shown.size) == ("RGB", (128, 128))
        assert len(Vocabulary.of(one["words"].split(", "))) >= 4
    for number in ("4", "-1", "x", "1e9"):
        assert server.get(f"/examples/{number}.png").status_code in (404, 422)


def test_a_similarity_picture_is_answered_without_a_temperature(segmenter):
    segmenter.temperature = None
    shown = opened(client(segmenter).post("/segment?format=similarity", content=png()))
    wanted = segmenter.predict(image(), OWN, scores=True).best_similarity
    assert np.abs(np.asarray(shown) / 65535 * 2 - 1 - wanted).max() < 2e-5


def test_the_page_is_served_and_loads_nothing_from_elsewhere(segmenter):
    page = client(segmenter).get("/")
    assert page.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in page.headers["content-security-policy"]
    for file in module.PAGE.iterdir():
        answer = client(segmenter).get(f"/page/{file.name}")
        assert answer.status_code == 200
        assert "//" not in answer.text.replace("// ", "")
