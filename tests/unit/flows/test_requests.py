"""A run's own parameters: checked before anything is written, and forgotten with the run."""

import contextlib
import dataclasses
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from prefect import runtime
from prefect.logging import disable_run_logger

from flows.own_parameters import Began, RequestError, begin, keep, require_own
from flows.parameters import Parameters
from flows.watch import watch
from fmbseg.params import ParamsError, load_params
from fmbseg.params_edit import write_params
from fmbseg.steps.download import DataError
from fmbseg.steps.ready import NotReadyError
from fmbseg.steps.workspace import Workspace
from tasks.versioning_params import dvc_lock_kept, record_params
from tests.conftest import REPOSITORY


@pytest.fixture
def params(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """params.yaml of a checkout, which is the current folder."""
    path = tmp_path / "params.yaml"
    path.write_bytes((REPOSITORY / "params.yaml").read_bytes())
    monkeypatch.chdir(tmp_path)
    return path


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ({"images": "/nope"}, DataError, "data.images: no folder /nope"),
        ({"classes": "nope.txt"}, DataError, "data.classes: no file nope.txt"),
        ({"labels": "nope"}, DataError, "data.labels: no folder nope"),
        ({"profile": "base"}, NotReadyError, "weights of .* fmbseg download"),
        ({"others": {"train.epoch": 3}}, ParamsError, "did you mean train.epochs"),
        ({"others": {"data.drops": "/etc"}}, RequestError, "data.drops: not for a request"),
        ({"others": {"data.drops": "../x"}}, RequestError, "data.drops: not for a request"),
        (
            {"others": {"data.corrections": "x"}},
            RequestError,
            "data.corrections: not for a request",
        ),
        ({"others": {"tracking.uri": "sqlite:////x"}}, RequestError, "tracking.uri: not for a"),
        ({"others": {"evaluate.data_sets": ["../x"]}}, ParamsError, "data_sets.0: found '../x'"),
    ],
)
@pytest.mark.parametrize("kept", [False, True])
def test_a_broken_request_is_one_line_and_leaves_the_checkout_as_it_was(
    params: Path, given: dict[str, Any], kind: type[Exception], words: str, kept: bool
):
    before = params.read_bytes()
    with pytest.raises(kind, match=words) as caught:
        begin(".", Parameters(epochs=3, keep=kept, **given))
    assert "\n" not in str(caught.value)
    assert params.read_bytes() == before
    assert sorted(path.name for path in params.parent.rglob("*")) == ["params.yaml"]
    assert begin(".", Parameters()).place == "."


def test_a_runs_own_parameters_are_that_runs_alone(params: Path):
    before = params.read_bytes()
    began = begin(".", Parameters(epochs=7, others={"pseudo_masks.prompt_points": 3}))
    assert params.read_bytes() == before, "at every moment, so a kill leaves nothing to mend"
    own = Workspace.open(began.place)
    assert (own.root, own.params) == (Path(), began.params)
    assert (own.params.train.epochs, own.params.pseudo_masks.prompt_points) == (7, 3)
    assert Workspace.open(".").params.train.epochs == 30
    assert began.before == {"train.epochs": 30, "pseudo_masks.prompt_points": 5}
    keep(".", began)
    assert params.read_bytes() == before
    assert Workspace.open(Path(began.place).resolve()).root == params.parent


def test_a_request_with_keep_is_written_once_the_run_succeeded_with_all_comments(params: Path):
    before = params.read_text()
    began = begin(".", Parameters(epochs=7, keep=True))
    assert params.read_text() == before
    keep(".", began)
    changed = set(params.read_text().splitlines()) ^ set(before.splitlines())
    assert sorted(line.split()[:2] for line in changed) == [["epochs:", "7"], ["epochs:", "auto"]]
    assert params.read_text().count("#") == before.count("#")


def test_values_that_stand_there_already_need_no_file_of_their_own(params: Path):
    began = begin(".", Parameters(epochs=30, methods=["maskclip", "stage1", "fmbseg"]))
    assert began.place == "."
    assert not (params.parent / ".scratch").exists()


def test_a_stale_form_does_not_overwrite_what_was_edited_since(params: Path):
    shown = {"seed": 0, "epochs": 30, "loss": "prototype_supcon"}
    write_params(params, {"train.epochs": 50})
    began = begin(".", Parameters(seed=3, epochs=30, loss="prototype_supcon"), shown)
    assert (began.changes, began.stale) == ({"seed": 3}, ("train.epochs",))
    assert began.params.train.epochs == 50


def test_the_same_request_twice_has_the_same_file(params: Path):
    first, second = (begin(".", Parameters(epochs=7)) for _ in range(2))
    assert first == second
    assert [p.name for p in Path(first.place).parent.iterdir()] == [Path(first.place).name]


def test_a_request_for_photographs_takes_them_for_one_run(params: Path):
    photos = params.parent / "photos"
    photos.mkdir()
    Image.new("RGB", (16, 12)).save(photos / "a.png")
    (params.parent / "words.txt").write_text("sky\n")
    began = begin(".", Parameters(images="photos", classes="words.txt", ignore_label=7))
    assert began.params.data.ignore_label == 7
    assert Workspace.open(began.place).data_set == "folder"
    assert Workspace.open(".").data_set == "miniature"


@pytest.mark.parametrize("root", ["..", "/etc", "runs/../..", "data", "link"])
def test_a_request_names_no_workspace_outside_the_checkout(params: Path, root: str):
    (params.parent / "link").symlink_to("/tmp")
    with pytest.raises(RequestError, match=f"root: found '{root}'; wanted"):
        require_own(root)
    require_own(".")
    require_own("runs/photos")
    require_own(str(params.parent / "runs" / "photos"))


def locked(root: Path, epochs: int) -> None:
    """Write dvc.lock as `dvc commit` does."""
    recorded = {"params.yaml": {"seed": 0, "train": {"epochs": epochs, "heads": 4}}}
    stages = {name: {"cmd": name, "params": recorded} for name in ("train", "report")}
    (root / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": stages}))


def test_dvc_lock_records_the_parameters_that_the_outputs_were_made_with(params: Path):
    began, root = begin(".", Parameters(epochs=7)), params.parent
    locked(root, epochs=30)
    record_params(Path(), Path(began.place))
    text = (root / "dvc.lock").read_text()
    assert "&" not in text
    for stage in yaml.safe_load(text)["stages"].values():
        train = stage["params"]["params.yaml"]["train"]
        assert train == yaml.safe_load(Path(began.place).read_text())["train"]
    assert text.count('"epochs": 7') + text.count("epochs: 7") == 2


@pytest.mark.parametrize("killed", [True, False])
def test_dvc_lock_is_put_back_when_a_commit_is_refused_or_killed(params: Path, killed: bool):
    root = params.parent

    def broken_off() -> None:
        kept = dvc_lock_kept(Path())
        kept.__enter__()
        locked(root, epochs=30)
        if killed:
            alive.append(kept)
        else:
            kept.__exit__(ValueError, ValueError("refused"), None)

    alive: list[object] = []
    for before in ({"epochs": 12}, None):
        (root / "dvc.lock").unlink(missing_ok=True)
        if before is not None:
            locked(root, **before)
        content = (root / "dvc.lock").read_bytes() if before else None
        with contextlib.suppress(ValueError):
            broken_off()
        if killed:
            assert (root / "dvc.lock").read_text().count("30") == 2
            with dvc_lock_kept(Path()):
                pass
        assert (root / "dvc.lock").is_file() == (before is not None)
        assert content is None or (root / "dvc.lock").read_bytes() == content


def test_a_run_without_parameters_of_its_own_lets_dvc_lock_be(params: Path):
    assert begin(".", Parameters()) == Began(
        ".", load_params(params), begin(".", Parameters()).params_sha
    )
    locked(params.parent, epochs=30)
    before = (params.parent / "dvc.lock").read_bytes()
    with dvc_lock_kept(Path()):
        record_params(Path(), Path("params.yaml"))
    assert (params.parent / "dvc.lock").read_bytes() == before


def test_dvc_says_that_params_yaml_differs_from_what_the_outputs_were_made_with(
    params: Path, dvc_site: None
):
    root = params.parent
    began = begin(".", Parameters(epochs=7))
    (root / ".dvc").mkdir()
    (root / ".dvc" / "config").write_bytes((REPOSITORY / ".dvc" / "config").read_bytes())
    stage = {"cmd": "false", "params": ["seed", "train"], "outs": ["model.txt"]}
    (root / "dvc.yaml").write_text(json.dumps({"stages": {"train": stage}}))
    (root / "model.txt").write_text("7 epochs")

    def run(*command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("git", "init", "--quiet")
    dvc = (sys.executable, "-m", "dvc")
    run(*dvc, "commit", "--force", "--quiet")
    record_params(Path(), Path(began.place))
    status = json.loads(run(*dvc, "status", "--json"))
    assert status == {"train": [{"changed deps": {"params.yaml": {"train": "modified"}}}]}
    keep(".", dataclasses.replace(began, keep=True))
    assert json.loads(run(*dvc, "status", "--json")) == {}


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("trouble", [RuntimeError, KeyboardInterrupt])
def test_a_run_that_fails_or_is_stopped_leaves_params_yaml_as_it_was(
    params: Path, monkeypatch: pytest.MonkeyPatch, trouble: type[BaseException], kept: bool
):
    from flows import pipeline

    seen = []

    def stages(root: str, began: Began) -> str:
        seen.append((root, Workspace.open(began.place).params.train.epochs))
        raise trouble

    monkeypatch.setattr(pipeline, "_run_stages", stages)
    before = params.read_bytes()
    with disable_run_logger(), pytest.raises(trouble):
        pipeline.fmbseg.fn(".", Parameters(epochs=7, keep=kept))
    assert seen == [(".", 7)]
    assert params.read_bytes() == before


def test_a_request_to_a_deployment_is_checked_for_its_workspace_first(
    params: Path, monkeypatch: pytest.MonkeyPatch
):
    from flows import pipeline

    monkeypatch.setattr(runtime.deployment, "id", "some", raising=False)
    for flow in (pipeline.fmbseg, watch):
        with disable_run_logger(), pytest.raises(RequestError, match="root: found '/etc'"):
            flow.fn("/etc")


@pytest.mark.parametrize("path", sorted((REPOSITORY / "flows").glob("[a-z]*.py")))
def test_no_file_of_flows_hides_a_package(path: Path):
    """Prefect loads a served flow by its path, with flows/ first among the places of imports."""
    found = importlib.util.find_spec(path.stem)
    origin = Path(str(found.origin)) if found else REPOSITORY
    assert REPOSITORY in (origin, origin.parent.parent), f"{path.name} hides {origin}"
