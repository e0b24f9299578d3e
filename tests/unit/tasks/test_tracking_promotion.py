"""Which registered model a version belongs to, and when the alias `champion` moves to it."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from fmbseg.steps import evaluate
from fmbseg.steps.workspace import Workspace, folder_name
from fmbseg.store import write_json
from tasks.tracking.facts import Result, images_folder, scored_contents
from tasks.tracking.mlflow_client import registry
from tasks.tracking.mlflow_client.registry import holder, promote, register, registered_model
from tasks.tracking.mlflow_client.store import RetryingClient, store_uri
from tasks.tracking.promotion import ENOUGH, Score, score_of, that_count
from tests.conftest import REPOSITORY


def workspace(root: Path, store: str, images: Path | str, **sections: dict[str, Any]) -> Workspace:
    """A workspace with nothing but its params.yaml."""
    params = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    params["data"] |= {"images": str(images), "classes": "classes.txt"}
    params["tracking"] |= {"uri": store}
    for section, values in sections.items():
        params[section] |= values
    root.mkdir(parents=True, exist_ok=True)
    (root / "params.yaml").write_text(yaml.safe_dump(params))
    return Workspace.open(root)


class Registry:
    """New versions of one workspace's model, each judged when it is registered."""

    def __init__(self, client: RetryingClient, workspace: Workspace) -> None:
        self.client, self.workspace = client, workspace
        self.name = register(client, workspace)

    def attempt(self, miou: float | None, terms: str = "whole") -> tuple[bool, str, str]:
        """Whether a new version became the champion, why, and which version is it then."""
        version = self.client.create_model_version(self.name, source=f"file://{self.name}")
        return self.judge(version.version, miou, terms)

    def judge(self, number: str, miou: float | None, terms: str) -> tuple[bool, str, str]:
        version, score = self.client.get_model_version(self.name, number), None
        if miou is not None:
            score = Score(miou, f"miou.fmbseg.folder.{terms}", f"fmbseg, {terms}")
            self.client.set_model_version_tag(self.name, number, score.tag, str(miou))
        decision = promote(self.client, self.workspace, version, score)
        now = holder(self.client, self.name)
        assert now is not None
        return decision.promoted, decision.reason, str(now.version)


def test_each_data_set_has_a_registered_model_of_its_own(
    client: RetryingClient, store: str, tmp_path: Path
):
    one = workspace(tmp_path / "runs/1", store, tmp_path / "a/photos")
    other = workspace(tmp_path / "runs/2", store, tmp_path / "b/photos/images")
    shipped = workspace(tmp_path / "runs/3", store, "miniature")
    of_that_name = workspace(tmp_path / "runs/4", store, tmp_path / "miniature")
    names = [register(client, each) for each in (one, other, shipped, of_that_name)]
    assert names[0] == "fmbseg-photos"
    assert names[1].startswith("fmbseg-photos-"), "two folders of one name share nothing"
    assert names[2] == "fmbseg-miniature"
    assert names[3].startswith("fmbseg-miniature-")
    for each, name in zip((one, other, shipped, of_that_name), names, strict=True):
        assert register(client, each) == registered_model(client, each) == name
    moved = workspace(tmp_path / "elsewhere", store, tmp_path / "a/photos")
    assert registered_model(client, moved) == "fmbseg-photos", "it goes by the images"
    chosen = workspace(
        tmp_path / "5", store, tmp_path / "a/photos", tracking={"registered_model": "street scenes"}
    )
    assert register(client, chosen) == "street scenes"


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("photos", "photos"),
        ("Über Land/images", "Über Land"),
        ("a:b@c's <x>", "a-b-c-s -x"),
        ("..hidden", "hidden"),
        ("e\u0301te\u0301", "\u00e9t\u00e9"),
        ("x" * 300, "x" * 60),
        ("\u202egnp", "gnp"),
        ("!!!", "images"),
    ],
)
def test_a_folder_of_any_name_gives_a_name_that_mlflow_and_paths_take(
    folder: str, name: str, tmp_path: Path
):
    assert folder_name(tmp_path / folder) == name


def test_without_labels_the_newest_complete_run_is_champion_until_there_is_a_figure(
    client: RetryingClient, store: str, tmp_path: Path
):
    registry = Registry(client, workspace(tmp_path, store, tmp_path / "unlabelled"))
    assert registry.attempt(None)[::2] == (True, "1")
    moved, why, version = registry.attempt(None)
    assert (moved, version) == (True, "2")
    assert "version 2 has no mIoU" in why
    assert "the newest complete run is the champion" in why
    model = client.get_registered_model(registry.name)
    assert model.description.endswith(f"Champion now: {why}."), "and says so"
    assert model.description.count("Champion now") == 1
    assert client.get_model_version(registry.name, "2").tags["champion_reason"] == why
    assert registry.attempt(0.3)[::2] == (True, "3"), "a figure goes before none"
    moved, why, version = registry.attempt(None)
    assert (moved, version) == (False, "3"), "and none never replaces a figure"
    assert "set_registered_model_alias('fmbseg-unlabelled', 'champion', 4)" in why


def test_the_champion_does_not_follow_noise(client: RetryingClient, store: str, tmp_path: Path):
    registry = Registry(client, workspace(tmp_path, store, tmp_path / "labelled"))
    assert registry.attempt(0.5)[::2] == (True, "1")
    moved, why, version = registry.attempt(0.509)
    assert (moved, version) == (False, "1")
    assert "not better than noise (0.01): champion version 1 has 0.5000" in why
    assert registry.attempt(0.491)[::2] == (False, "1")
    moved, why, version = registry.attempt(0.45)
    assert "not better: champion version 1 has 0.5000" in why
    moved, why, version = registry.attempt(0.52)
    assert (moved, version) == (True, "5")
    assert "version 5 has mIoU 0.5200" in why
    assert "better by more than noise (0.01): the former champion version 1 has 0.5000" in why


def test_a_version_scored_under_other_terms_is_champion_unless_an_earlier_figure_compares(
    client: RetryingClient, store: str, tmp_path: Path
):
    registry = Registry(client, workspace(tmp_path, store, tmp_path / "changed"))
    assert registry.attempt(0.8)[::2] == (True, "1")
    assert registry.attempt(0.7)[::2] == (False, "1")
    moved, why, version = registry.judge("2", 0.9, "other")
    assert (moved, version) == (False, "1"), "both were scored as whole, where it is worse"
    assert "champion version 1 has 0.8000, this one 0.7000, as miou.fmbseg.folder.whole" in why
    moved, why, version = registry.attempt(0.4, "more labels")
    assert (moved, version) == (True, "3")
    assert "not comparable with the former champion version 1" in why


def test_figures_compare_while_scored_images_labels_and_classes_stay_wherever_they_lie(
    tmp_path: Path,
):
    def terms(root: Path, unscored: str = "1") -> str:
        """Of a workspace whose images are listed there, one of them with a label."""
        made = workspace(root, "sqlite:///none.db", root / "photos", data={
            "labels": str(root / "labels"), "classes": str(root / "classes.txt"),
        })  # fmt: skip
        images = {"a.png": "0" * 64, "b.png": unscored * 64}
        write_json(made.download / "listing.json", {"images": images, "refused": []})
        folder = root / "reports/evaluate/fmbseg-folder"
        write_json(folder / "image_scores.json", [{"image": "a.png"}])
        figures = {"method": "fmbseg", "data_set": "folder", "split": "all", "miou": 0.5,
                   "protocol_hash": "abc", "images": 1}  # fmt: skip
        return score_of(figures, scored_contents(made, Result(folder, figures, ""))).tag

    for name in ("one", "two"):
        (tmp_path / name / "labels").mkdir(parents=True)
        Image.new("L", (2, 3)).save(tmp_path / name / "labels/a.png")
        (tmp_path / name / "classes.txt").write_text("sky\nsea\n")
    first = terms(tmp_path / "one")
    assert first.startswith("miou.fmbseg.folder.all.abc.")
    assert terms(tmp_path / "two") == first
    assert terms(tmp_path / "two", unscored="2") == first, "more images without labels"
    Image.new("L", (2, 3), 1).save(tmp_path / "two/labels/a.png")
    assert terms(tmp_path / "two") != first, "corrected labels"
    (tmp_path / "one/classes.txt").write_text("sky\n")
    assert terms(tmp_path / "one") != first, "other classes"


def test_what_was_trained_on_labels_is_never_the_champion(
    client: RetryingClient, store: str, tmp_path: Path
):
    ceiling = workspace(tmp_path, store, tmp_path / "ceiling", train={"labels": "truth"})
    name = register(client, ceiling)
    version = client.create_model_version(name, source="file://ceiling")
    decision = promote(client, ceiling, version, Score(0.9, "miou.a", "a"))
    assert not decision.promoted
    assert "train.labels: truth" in decision.reason
    assert holder(client, name) is None


def test_runs_in_copies_and_workspaces_of_a_checkout_share_its_database(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    root = tmp_path / "code"
    (root / "photos").mkdir(parents=True)
    monkeypatch.delenv("FMBSEG_TRACKING_URI", raising=False)
    made = workspace(root, "sqlite:///mlflow.db", "photos")
    for folder in (".", ".dvc/tmp/exps/tmpabc", "runs/x", "runs/x/.dvc/tmp/exps/tmpabc",
                   "runs/x/.dvc/tmp/exps/tmpabc/runs/x"):  # fmt: skip
        (root / folder / "photos").mkdir(parents=True, exist_ok=True)
        monkeypatch.chdir(root / folder)
        assert store_uri(made) == f"sqlite:///{root}/mlflow.db", folder
    monkeypatch.chdir(root / ".dvc/tmp/exps/tmpabc")
    assert images_folder(made) == str(root / "photos")
    monkeypatch.setenv("FMBSEG_TRACKING_URI", "http://127.0.0.1:5000")
    assert store_uri(made) == "http://127.0.0.1:5000"


def test_held_out_corrections_decide_once_they_are_enough():
    home, few, many = (
        Score(0.5, "miou.home", "home", "folder", 3),
        Score(0.6, "miou.few", "few", "corrections", ENOUGH - 1),
        Score(0.6, "miou.many", "many", "corrections", ENOUGH),
    )
    assert that_count([home, few]) == [home]
    assert that_count([few]) == []
    assert that_count([home, many]) == [many, home]


def test_a_champion_that_was_scored_on_fewer_corrections_is_scored_on_todays(
    client: RetryingClient, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    one = Registry(client, workspace(tmp_path / "runs/c", store, tmp_path / "corrected"))

    def judged(miou: float, tag: str) -> tuple[bool, str]:
        version = client.create_model_version(one.name, source=f"file://{one.name}")
        score = Score(miou, f"miou.fmbseg.corrections.{tag}", tag, "corrections", ENOUGH)
        client.set_model_version_tag(one.name, version.version, score.tag, str(miou))
        decision = promote(client, one.workspace, version, score)
        return decision.promoted, decision.reason

    asked: list[str] = []

    def miou_of(workspace: Workspace, folder: Path, method: str, name: str) -> float | None:
        asked.append(name)
        return 0.7

    monkeypatch.setattr(registry, "download_champion", lambda *_: tmp_path)
    monkeypatch.setattr(evaluate, "miou_of", miou_of)
    assert judged(0.9, "ten images")[0]
    assert asked == [], "there was no champion"
    better, why = judged(0.8, "twelve images")
    assert better, "0.9 was on other images"
    assert "0.7" in why
    assert asked == ["corrections"]
    assert not judged(0.7, "twelve images")[0]
    assert asked == ["corrections"], "it has a score on these"
    monkeypatch.setattr(evaluate, "miou_of", lambda *_: None)
    assert "not comparable" in judged(0.6, "thirteen images")[1]
