"""The preview of class names in the review's server."""

import shutil
import time
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from fmbseg.params_edit import write_params
from fmbseg.review.app import Review, review_app
from fmbseg.review.names import LOOKING
from fmbseg.steps.workspace import Workspace


@pytest.mark.weights
def test_the_page_of_names_follows_the_class_file_and_is_for_who_knows_the_token(
    small_run: Path, tmp_path: Path
):
    root = Path(shutil.copytree(small_run, tmp_path / "work", ignore=_all_but_the_images))
    classes = tmp_path / "classes.txt"
    classes.write_text("sky\n<i>grass</i>\n")
    write_params(root / "params.yaml", {"data.classes": str(classes)})
    app = review_app(Review(Workspace.open(root), "anna", "secret"))
    client = TestClient(app, base_url="http://127.0.0.1:8000")
    assert client.get("/preview").status_code == 403
    assert client.get("/preview", params={"token": "other"}).status_code == 403

    def page() -> str:
        for _ in range(200):
            answer = client.get("/preview", params={"token": "secret"})
            if answer.text != LOOKING:
                break
            time.sleep(0.05)
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'; img-src data:" in policy or answer.status_code == 422
        assert "script-src" not in policy or answer.status_code == 422
        return str(answer.text)

    first = page()
    assert "&lt;i&gt;grass&lt;/i&gt;" in first
    assert "<i>grass" not in first
    classes.write_text("sky\nhouse\n")
    assert "house" in page()
    classes.write_text("sky\n")
    assert "found one class" in page()
    classes.write_text("sky\ncar\n")
    assert "car" in page(), "an error is not for ever"


def _all_but_the_images(folder: str, names: list[str]) -> set[str]:
    """What a preview reads: parameters and images."""
    return {name for name in names if name in ("models", "reports", "pseudo_masks", "subsample")}
