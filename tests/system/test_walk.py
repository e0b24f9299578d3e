"""A new user's first hour, in order: a bare clone, the miniature, photographs, mistakes, pages.

Pictures of the pages go to the folder that FMBSEG_WALK_PICTURES names, or to pytest's own.
"""

import base64
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fmbseg.store import read_json
from scripts.browser import PHONE, WIDE, Page, find_browser, opened
from scripts.mlflow_pictures import mlflow_ui
from tests.conftest import REPOSITORY
from tests.support.checkouts import Checkout, Finished
from tests.support.running_server import Served, get, served_clone

CAMVID = REPOSITORY.parent / "shared" / "data" / "camvid"
CLASSES = CAMVID / "classes.txt"
pytestmark = [
    pytest.mark.e2e, pytest.mark.weights, pytest.mark.timeout(1800),
    pytest.mark.skipif(not CAMVID.is_dir(), reason="no photographs beside the checkout"),
]  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A clone with a quarter of the images, and a Prefect server with its pages beside it."""
    root, outside = tmp_path_factory.mktemp("walk") / "fmbseg", tmp_path_factory.mktemp("outside")
    with served_clone(root, outside) as made:
        params = root / "params.yaml"
        params.write_text(params.read_text().replace("train_images: 600 ", "train_images: 150 "))
        yield made


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    named = os.environ.get("FMBSEG_WALK_PICTURES")
    return Path(named) if named else tmp_path_factory.mktemp("pictures")


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    browser = find_browser()
    if browser is None:
        pytest.skip("no browser on the PATH")
    with opened(browser) as found:
        yield found


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two different folders of one name: twelve photographs with labels, and three others."""
    folder = tmp_path_factory.mktemp("photographs")
    first, second = folder / "mine" / "street", folder / "yours" / "street"
    images = sorted((CAMVID / "images" / "val").iterdir())
    for target, chosen in ((first, images[:12]), (second, images[12:15])):
        target.mkdir(parents=True)
        for image in chosen:
            shutil.copy(image, target)
    labels = folder / "mine" / "street-labels"
    labels.mkdir()
    for image in images[:12]:
        shutil.copy(CAMVID / "labels" / "val" / f"{image.stem}.png", labels)
    return first, second


def fmbseg(copy: Checkout, *arguments: str) -> Finished:
    return copy.run("-m", "fmbseg.cli", *arguments)


def one_line(done: Finished, code: int) -> str:
    """What was printed to standard error, which has to be one line without a trace."""
    assert done.code == code, done.out + done.error
    assert "Traceback" not in done.out + done.error
    lines = [line for line in done.error.splitlines() if line.strip()]
    assert len(lines) == 1, done.error
    return lines[0]


def test_before_the_first_run_every_command_says_what_is_missing(served: Served):
    photo = str(next((CAMVID / "images" / "val").iterdir()))
    assert "make run" in one_line(fmbseg(served.copy, "predict", photo, "--classes", "a, b"), 2)
    unknown = fmbseg(served.copy, "export")  # there is nothing to export, and no such command
    assert unknown.code == 2
    assert "Traceback" not in unknown.error
    assert "choose from" in unknown.error
    assert fmbseg(served.copy, "doctor").code == 0


def test_the_miniature_runs_and_says_where_everything_lies(served: Served):
    done = served.copy.flow()
    for place in ("data/pseudo_masks", "models/train", "reports/report/index.html"):
        assert place in done.out, done.out
    assert "fmbseg predict" in done.out
    assert "params.yaml" in done.out


def test_photographs_run_with_labels_then_without_and_keep_to_themselves(
    served: Served, photographs: tuple[Path, Path]
):
    street, _ = photographs
    given = ["--images", str(street), "--classes", str(CLASSES)]
    labels = ["--labels", f"{street}-labels", "--ignore-label", "11"]
    served.copy.flow(*given, *labels, "--workspace", "runs/labelled")
    figures = read_json(
        served.copy.root / "runs/labelled/reports/evaluate/fmbseg-folder/metrics.json"
    )
    assert figures["images"] == 12
    plain = served.copy.flow(*given)
    assert "runs/street" in plain.out
    assert not (served.copy.root / "runs/street/reports/evaluate/fmbseg-folder").exists()
    masks = sorted((served.copy.root / "runs/street/data/pseudo_masks").glob("*/manifest.json"))
    assert masks


def test_a_second_folder_of_the_same_name_takes_nothing_over(
    served: Served, photographs: tuple[Path, Path]
):
    root = served.copy.root / "runs/street"
    before = {p: p.read_bytes() for p in root.rglob("*.json") if ".scratch" not in p.parts}
    _, other = photographs
    done = served.copy.run(
        "-m", "flows.run", "--images", str(other), "--classes", str(CLASSES), seconds=600
    )
    assert "runs/street" in done.out + done.error
    for path, content in before.items():
        assert path.read_bytes() == content, path
    if done.code == 0:
        workspaces = [
            p for p in (served.copy.root / "runs").iterdir() if p.name.startswith("street")
        ]
        assert len(workspaces) == 2
    else:
        one_line(done, 2)


def test_a_broken_request_fails_with_words_and_changes_nothing(served: Served):
    params = served.copy.root / "params.yaml"
    before = params.read_bytes()
    with served.serving():
        refused = served.full({"images": "/nope"})
        assert refused.code == 1
        run = served.runs("fmbseg")[-1]
        assert run["state_name"] == "Failed"
        assert any("/nope" in line and "\n" not in line for line in served.logs(run, 40))
        assert params.read_bytes() == before
        asked = served.full()
        assert asked.code == 0, asked.out + asked.error
        assert params.read_bytes() == before
    assert served.runs("fmbseg")[-1]["state_name"] == "Completed"


def test_predict_answers_with_files_and_refuses_what_is_no_class(
    served: Served, photographs: tuple[Path, Path], tmp_path: Path
):
    photo = str(sorted(photographs[0].iterdir())[0])
    model = ["--model", "runs/street/models/train", "--out", str(tmp_path / "out")]
    done = fmbseg(served.copy, "predict", photo, "--classes", str(CLASSES), *model)
    assert done.code == 0, done.error
    labels = np.asarray(Image.open(tmp_path / "out" / f"{Path(photo).stem}.png"))
    assert labels.shape == (360, 480)
    assert labels.max() < 11
    said = one_line(fmbseg(served.copy, "predict", photo, "--classes", "missing.txt", *model), 2)
    assert "missing.txt" in said
    none = fmbseg(
        served.copy, "predict", photo, "--classes", "quux, zorb", "--min-similarity", "0.99", *model
    )
    assert none.code == 0, none.error
    assert (np.asarray(Image.open(tmp_path / "out" / f"{Path(photo).stem}.png")) == 255).all()
    assert "device" in one_line(
        fmbseg(served.copy, "predict", photo, "--classes", "a, b", "--device", "banana", *model), 2
    )


def test_the_registered_model_of_the_photographs_answers_bytes_and_opens_no_path(
    served: Served, photographs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
):
    import mlflow
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    monkeypatch.chdir(served.copy.root)
    databases = [served.copy.root / "mlflow.db", served.copy.root / "runs/street/mlflow.db"]
    names = {}
    for path in filter(Path.is_file, databases):
        client = MlflowClient(f"sqlite:///{path}", f"sqlite:///{path}")
        for model in client.search_registered_models():
            if "champion" in model.aliases:
                names[model.name] = path
    street = next(name for name in names if "street" in name)
    assert any("miniature" in name for name in names)
    mlflow.set_tracking_uri(f"sqlite:///{names[street]}")
    loaded = mlflow.pyfunc.load_model(f"models:/{street}@champion")
    photo = sorted(photographs[0].iterdir())[0]
    import pandas as pd  # type: ignore[import-untyped]

    found = loaded.predict(pd.DataFrame({"image": [photo.read_bytes()]}))
    assert Image.open(io.BytesIO(base64.b64decode(found[0]))).size == (480, 360)
    with pytest.raises((MlflowException, ValueError)) as refused:
        loaded.unwrap_python_model().predict(None, pd.DataFrame({"image": [str(photo)]}))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_the_pages_show_what_was_run(
    served: Served, page: Page, pictures: Path, size: tuple[int, int]
):
    width = size[0]
    for workspace in (".", "runs/street", "runs/labelled"):
        report = served.copy.root / workspace / "reports/report/index.html"
        page.open(report.as_uri(), size)
        assert "FMbSeg" in page.text()
        assert page.run("document.documentElement.scrollWidth") <= width
        name = "report" if workspace == "." else f"report-{Path(workspace).name}"
        page.save(pictures / f"{name}-{width}.png", whole=True)
    pages = served.url.removesuffix("/api")
    run = served.runs("fmbseg")[-1]
    page.open(f"{pages}/runs/flow-run/{run['id']}", size, settle_s=4)
    page.until(f"document.body.innerText.includes('{run['name']}')")
    page.save(pictures / f"prefect-run-{width}.png")
    deployment = get(f"{served.url}/deployments/name/fmbseg/full")["id"]
    page.open(f"{pages}/deployments/deployment/{deployment}/run", size, settle_s=4)
    page.until("document.body.innerText.includes('ignore')")
    page.save(pictures / f"prefect-form-{width}.png", whole=True)
    with mlflow_ui(f"sqlite:///{served.copy.root / 'mlflow.db'}") as address:
        asked = f"{address}/api/2.0/mlflow/experiments/get-by-name?experiment_name=fmbseg"
        experiment = get(asked)["experiment"]["experiment_id"]
        runs = _finished_parents(served.copy.root / "mlflow.db", experiment)
        page.open(f"{address}/#/experiments/{experiment}/runs/{runs[0]}", size, settle_s=8)
        page.until("document.body.innerText.includes('Model metrics')")
        page.save(pictures / f"mlflow-run-{width}.png")
        both = f"runs={json.dumps(runs[:2])}&experiments={json.dumps([experiment])}"
        page.open(f"{address}/#/compare-runs?{both}", size, settle_s=8)
        page.until("document.body.innerText.includes('Comparing')")
        page.save(pictures / f"mlflow-compare-{width}.png")
    for picture in pictures.glob(f"*-{width}.png"):
        assert np.asarray(Image.open(picture).convert("L")).std() > 5, f"{picture}: empty"


def _finished_parents(database: Path, experiment: str) -> list[str]:
    from mlflow.tracking import MlflowClient

    runs = MlflowClient(f"sqlite:///{database}").search_runs(
        [experiment], "attributes.status = 'FINISHED'"
    )
    return [run.info.run_id for run in runs if "mlflow.parentRunId" not in run.data.tags]
