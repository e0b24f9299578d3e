"""The review's server: who may ask, what is saved, and that nothing is half done."""

import errno
import json

import pytest
from fastapi.testclient import TestClient

from fmbseg.corrections.store import corrected_images, correction_file, read_correction
from fmbseg.review import app as module
from fmbseg.review import saving
from fmbseg.review.app import Review, review_app
from fmbseg.store import DiskFullError
from tests.support.review_workspace import MASKS, review_workspace

NAME = "street/a <i>b</i>.png"
TOKEN = {"X-Token": "secret"}


@pytest.fixture
def workspace(tmp_path):
    return review_workspace(tmp_path / "work", {NAME: MASKS, "b.png": MASKS})


@pytest.fixture
def review(workspace):
    return Review(workspace, "anna", "secret")


@pytest.fixture
def client(review):
    return TestClient(review_app(review), base_url="http://127.0.0.1:8000", headers=TOKEN)


def state(client, **values):
    """The image as the page would send it, unchanged but for some values."""
    found = client.get("/api/image", params={"name": NAME}).json()
    sent = {key: found[key] for key in ("image", "revision", "accepted", "regions")}
    return {**sent, "what": "accepted", "seconds": 2.25, **values}


def test_a_change_is_on_the_disk_once_it_is_answered(client, workspace, review):
    regions = state(client)["regions"]
    regions[0] |= {"class_name": "sky", "origin": "person", "score": 0.5}
    done = client.post("/api/save", json=state(client, regions=regions[:2], accepted=True))
    assert (done.status_code, done.json()) == (200, {"revision": 1, "accepted": True})
    found = read_correction(workspace.corrections, NAME)
    assert [(one.class_name, one.origin) for one in found.regions] == [
        ("sky", "person"), ("sky", "1.1")
    ]  # fmt: skip
    assert found.regions[0].score is None
    assert (found.accepted, found.history[0].by, found.history[0].seconds) == (True, "anna", 2.2)
    assert (review.seconds, review.accepted) == ({NAME: 2.25}, {NAME})
    assert client.get("/api/queue").json() == {
        "images": [["b.png", None], [NAME, None]], "states": {NAME: "accepted"}, "waiting": 0
    }  # fmt: skip


def test_a_second_tab_is_refused_and_told_and_a_lost_answer_is_no_conflict(client, workspace):
    sent = state(client)
    assert client.post("/api/save", json=sent).json()["revision"] == 1
    assert client.post("/api/save", json=sent).json()["revision"] == 1  # its answer was lost
    before = correction_file(workspace.corrections, NAME).read_bytes()
    other = client.post("/api/save", json={**sent, "regions": [], "what": "all deleted"})
    assert other.status_code == 409
    assert other.json()["last"]["by"] == "anna"
    assert correction_file(workspace.corrections, NAME).read_bytes() == before
    assert client.post("/api/save", json=state(client, regions=[])).json()["revision"] == 2


@pytest.mark.parametrize(
    "broken",
    [
        {"image": "../../params.yaml"}, {"image": "/etc/passwd"}, {"revision": -1}, {"more": 1},
        {"seconds": float("1e9")}, {"regions": [{}]}, {"accepted": None}, {"what": "x" * 9999},
        {"regions": [{"class_name": "dog", "runs": [0, 2400], "origin": "person", "score": None}]},
        {"regions": [{"class_name": "sky", "runs": [0, 24], "origin": "person", "score": None}]},
        {"regions": [{"class_name": "sky", "runs": [2400], "origin": "person", "score": None}]},
        {"regions": [{"class_name": "sky", "runs": [0, 2400], "origin": "me", "score": None}]},
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_and_nothing_written(client, workspace, broken):
    done = client.post("/api/save", json=state(client, **broken))
    assert done.status_code == 422
    assert done.json()["problem"]
    assert corrected_images(workspace.corrections) == []


def test_a_body_that_is_too_large_or_no_json_is_refused(client, workspace, monkeypatch):
    body = json.dumps(state(client)).encode()
    plain = client.post("/api/save", content=body, headers={"Content-Type": "text/plain"})
    assert plain.status_code == 415
    kind = {"Content-Type": "application/json"}
    assert client.post("/api/save", content=b"{", headers=kind).status_code == 422
    monkeypatch.setattr(module, "MAX_BODY_BYTES", len(body) - 1)
    assert client.post("/api/save", content=body, headers=kind).status_code == 413
    assert corrected_images(workspace.corrections) == []


def test_a_full_disk_is_said_so_that_the_page_tries_again(client, workspace, monkeypatch):
    def full(*_):
        raise DiskFullError(errno.ENOSPC, "the disk is full")

    monkeypatch.setattr(saving, "save_correction", full)
    done = client.post("/api/save", json=state(client))
    assert (done.status_code, done.json()) == (503, {"problem": "the disk is full"})


def test_only_who_knows_the_token_and_calls_the_server_by_its_name_is_answered(review):
    app = review_app(review)
    here, there = "http://127.0.0.1:8000", "http://evil.example:8000"
    assert TestClient(app, base_url=here).get("/api/queue").status_code == 403
    assert TestClient(app, base_url=here, headers=TOKEN).get("/api/queue").status_code == 200
    assert TestClient(app, base_url=there, headers=TOKEN).get("/api/queue").status_code == 400
    assert TestClient(app, base_url=there).get("/").status_code == 400
    page = TestClient(app, base_url=here).get("/", headers={"Origin": "http://evil.example"})
    assert "require-trusted-types-for" in page.headers["content-security-policy"]
    assert "access-control-allow-origin" not in page.headers
    for path in ("/../app.py", "/%2e%2e/app.py", "/..%2fapp.py", "/docs", "/openapi.json"):
        assert TestClient(app, base_url=here).get(path).status_code == 404


def test_pictures_and_classes_come_as_they_are(client):
    about = client.get("/api/session").json()
    assert about["classes"] == ["sky", "<b>car</b>", "grass"]
    assert len(about["colours"]) == 3
    found = client.get("/api/picture", params={"name": NAME})
    assert found.headers["content-type"] == "image/png"
    for name in ("../params.yaml", "/etc/passwd", "none.png"):
        missing = client.get("/api/picture", params={"name": name})
        assert missing.status_code == 422
        assert "no such image" in missing.json()["problem"]
