"""The profile `paper` against what the paper publishes, and the list of departures."""

import argparse
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from fmbseg import paper
from fmbseg.commands.doctor import doctor
from fmbseg.params import Params, ParamsError, load_params
from fmbseg.steps import evaluate
from fmbseg.steps.departures import departure_lines, departures
from fmbseg.steps.evaluation_sets import EvaluationSet
from fmbseg.steps.workspace import Workspace
from fmbseg.vocabulary import Vocabulary
from tests.conftest import REPOSITORY

FILE = REPOSITORY / "params.yaml"
TEMPLATE = 'a photo of a "{}"'
COLUMN = EvaluationSet("voc20", "val", SimpleNamespace(background_index=None), Vocabulary(("cat",)))


def of_profile(profile: str, **overrides: object) -> Params:
    changes = {name.replace("__", "."): value for name, value in overrides.items()}
    return load_params(FILE, {"models.profile": profile, **changes})


def test_the_profile_paper_resolves_to_every_published_value() -> None:
    params = of_profile("paper", evaluate__protocol="tcl", evaluate__background="stuff_names")
    train, stage1 = params.train, params.pseudo_masks
    assert (train.epochs, train.batch_images, train.patches_per_image) == (10, 5, None)
    assert (train.loss, train.labels, train.init_from) == ("prototype_supcon", "pseudo", None)
    assert (stage1.presence_votes, stage1.prompt_points) == (1, 5)
    assert params.models.template == TEMPLATE
    assert train.hold_rate_from is None, "the cosine goes to its end"
    added = (train.max_grad_norm, train.average_over, train.warm_up_fraction)
    assert added == (None, None, 0.0), "not published, so none is added"
    assert [one.key for one in departures(params) if one.published] == []


def test_the_paper_has_one_template_in_training_and_in_evaluation_under_tcl() -> None:
    found = {
        profile: evaluate.protocol(
            Workspace(Path(), of_profile(profile, evaluate__protocol="tcl")), COLUMN
        )
        for profile in ("miniature", "base", "paper")
    }
    assert found["paper"].templates == (TEMPLATE,)
    assert found["base"].templates == found["miniature"].templates == ("a photo of a {}",)
    assert found["paper"].digest != found["base"].digest
    params = of_profile("paper", evaluate__protocol="tcl", evaluate__templates="protocol")
    assert evaluate.protocol(Workspace(Path(), params), COLUMN).templates == ("a photo of a {}",)


@pytest.mark.parametrize("profile", ["miniature", "base"])
def test_other_profiles_keep_the_values_tuned_on_the_miniature(profile: str) -> None:
    train = of_profile(profile).train
    assert (train.epochs, train.patches_per_image, train.max_grad_norm) == (30, 16, 1.0)
    found = (train.warm_up_fraction, train.hold_rate_from, train.average_over)
    assert found == (0.02, 0.5, 0.3)


@pytest.mark.parametrize("dotted", sorted(paper.AUTO))
def test_auto_is_resolved_for_every_key_of_the_table_and_an_explicit_value_wins(
    dotted: str,
) -> None:
    section, key = dotted.split(".")
    published, ours = paper.AUTO[dotted]
    for profile, wanted in (("paper", published), ("base", ours)):
        found = load_params(FILE, {"models.profile": profile, dotted: "auto"})
        assert getattr(getattr(found, section), key) == wanted
        other = ours if profile == "paper" else published
        found = load_params(FILE, {"models.profile": profile, dotted: other})
        assert getattr(getattr(found, section), key) == other
    assert yaml.safe_load(FILE.read_text())[section][key] == "auto", "the profile decides"


@pytest.mark.parametrize("dotted", sorted(paper.AUTO))
def test_the_help_text_of_a_key_says_what_auto_stands_for(dotted: str) -> None:
    section, key = dotted.split(".")
    fields = Params.model_fields[section].annotation.model_fields
    text = " ".join(fields[key].description.split())
    published, ours = (f"{v:g}" if isinstance(v, float) else paper.shown(v)
                       for v in paper.AUTO[dotted])  # fmt: skip
    said = rf"auto: {published} with the profile paper(, as published)?, else {ours}\b"
    assert re.search(said, text), text


def test_auto_is_no_value_where_no_profile_decides() -> None:
    with pytest.raises(ParamsError, match=r"train\.momentum"):
        load_params(FILE, {"train.momentum": "auto"})


def test_each_departure_is_listed_with_what_the_paper_says() -> None:
    said = {one.key: one for one in departures(of_profile("base", train__epochs=3))}
    assert said["train.epochs"].words() == "train.epochs 3 (paper: 10 epochs)"
    assert said["models.clip"].words() == (
        "models.clip ViT-B-16-quickgelu, openai (paper: CLIP ViT-L/14 of OpenAI)"
    )
    assert said["evaluate.protocol"].published is not None
    assert "models.template" not in said, "it is the paper's"
    assert "evaluate.templates" not in said, "whole takes the template of training"
    assert "evaluate.templates" in {
        one.key for one in departures(of_profile("base", evaluate__protocol="tcl"))
    }
    votes = {one.key for one in departures(of_profile("paper", pseudo_masks__presence_votes=2))}
    assert "pseudo_masks.presence_votes" in votes


def test_every_setting_that_the_paper_does_not_publish_is_listed() -> None:
    silent = {one.key for one in departures(of_profile("paper")) if not one.published}
    assert {
        "train.learning_rate", "train.momentum", "train.temperature", "train.heads",
        "train.max_grad_norm", "train.input_short_side_px", "pseudo_masks.clip_short_side_px",
        "pseudo_masks.clip_stride_fraction", "pseudo_masks.points_per_side",
        "pseudo_masks.min_predicted_iou", "pseudo_masks.min_stability",
        "pseudo_masks.min_area_fraction", "pseudo_masks.max_area_fraction",
        "subsample.keep_fraction", "models.projection",
    } <= silent  # fmt: skip
    assert not silent & {"train.epochs", "train.chunk_patches", "models.profile"}


def test_doctor_report_and_a_runs_start_print_the_same_list(
    capsys: pytest.CaptureFixture[str],
) -> None:
    params = load_params(FILE)
    doctor(argparse.Namespace(params=FILE))
    printed = capsys.readouterr().out
    lines = departure_lines(params)
    assert lines[0].startswith("departs from the paper in: models.clip miniature (paper: CLIP")
    assert lines[1].startswith("the paper does not publish: ")
    for one in departures(params):
        assert one.words() in printed
        assert one.words() in lines[0 if one.published else 1]
