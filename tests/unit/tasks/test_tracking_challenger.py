"""Which version stands beside the champion under the alias `challenger`."""

from pathlib import Path

import pytest

from fmbseg.steps import evaluate
from tasks.tracking.mlflow_client import registry
from tasks.tracking.mlflow_client.registry import holder, promote
from tasks.tracking.mlflow_client.store import RetryingClient
from tasks.tracking.promotion import CHALLENGER, CHAMPION, ENOUGH, Score
from tests.unit.tasks.test_tracking_promotion import Registry, workspace


def aliases(one: Registry) -> tuple[str | None, str | None]:
    """Numbers of the champion and of the challenger."""
    found = [holder(one.client, one.name, alias) for alias in (CHAMPION, CHALLENGER)]
    champion, challenger = (version and str(version.version) for version in found)
    return champion, challenger


def test_the_challenger_is_the_last_that_lost_or_the_champion_that_made_way(
    client: RetryingClient, store: str, tmp_path: Path
):
    one = Registry(client, workspace(tmp_path, store, tmp_path / "contest"))
    one.attempt(0.5)
    assert aliases(one) == ("1", None), "the first has nobody to be held against"
    one.attempt(0.4)
    assert aliases(one) == ("1", "2"), "it lost"
    one.attempt(0.505)
    assert aliases(one) == ("1", "3"), "no more than noise, and the newest"
    one.attempt(0.6)
    assert aliases(one) == ("4", "1"), "the former champion"
    one.judge("4", 0.6, "whole")
    assert aliases(one) == ("4", "1"), "judged again, the champion stays what it is"
    one.judge("2", 0.4, "whole")
    assert aliases(one) == ("4", "2"), "an older model was scored anew"
    one.judge("2", 0.9, "whole")
    assert aliases(one) == ("2", "4"), "never both on one version"


def test_a_version_without_a_figure_challenges_no_champion_that_has_one(
    client: RetryingClient, store: str, tmp_path: Path
):
    one = Registry(client, workspace(tmp_path, store, tmp_path / "figureless"))
    one.attempt(None)
    one.attempt(None)
    assert aliases(one) == ("2", "1"), "the newest leads as long as there are no figures"
    one.attempt(0.3)
    assert aliases(one) == ("3", "2")
    one.attempt(None)
    assert aliases(one) == ("3", "2")


def test_a_champion_that_was_set_by_hand_gives_up_the_other_alias(
    client: RetryingClient, store: str, tmp_path: Path
):
    one = Registry(client, workspace(tmp_path, store, tmp_path / "by hand"))
    one.attempt(0.5)
    one.attempt(0.4)
    client.delete_registered_model_alias(one.name, CHAMPION)
    assert one.judge("2", 0.4, "whole")[0], "there is no champion"
    assert aliases(one) == ("2", None)


def test_what_was_trained_on_labels_is_no_challenger(
    client: RetryingClient, store: str, tmp_path: Path
):
    images = tmp_path / "ceilings"
    one = Registry(client, workspace(tmp_path / "a", store, images))
    one.attempt(0.5)
    truth = workspace(tmp_path / "b", store, images, train={"labels": "truth"})
    version = client.create_model_version(one.name, source="file://ceiling")
    promote(client, truth, version, Score(0.9, "miou.fmbseg.folder.whole", "a"))
    assert aliases(one) == ("1", None)


def test_who_loses_on_todays_corrections_is_the_challenger(
    client: RetryingClient, store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """By the rule of corrections the champion is scored on today's first, and may lose on them."""
    one = Registry(client, workspace(tmp_path / "runs/c", store, tmp_path / "put right"))
    monkeypatch.setattr(registry, "download_champion", lambda *_: tmp_path)
    monkeypatch.setattr(evaluate, "miou_of", lambda *_: 0.7)

    def judged(miou: float, tag: str) -> None:
        version = client.create_model_version(one.name, source=f"file://{one.name}")
        score = Score(miou, f"miou.fmbseg.corrections.{tag}", tag, "corrections", ENOUGH)
        client.set_model_version_tag(one.name, version.version, score.tag, str(miou))
        promote(client, one.workspace, version, score)

    judged(0.9, "ten images")
    judged(0.6, "twelve images")
    assert aliases(one) == ("1", "2"), "0.7 on today's twelve"
    judged(0.8, "twelve images")
    assert aliases(one) == ("3", "1"), "0.9 was on other images"
