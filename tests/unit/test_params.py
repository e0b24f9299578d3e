import re
from pathlib import Path
from typing import get_args

import pytest

from fmbseg.align.loss import LOSSES
from fmbseg.align.settings import Loss
from fmbseg.evaluate.protocol import PROTOCOLS
from fmbseg.evaluate.settings import EvaluateParams
from fmbseg.models.clip_projection import PROJECTIONS
from fmbseg.models.profiles import PROFILES
from fmbseg.models.settings import ModelsParams
from fmbseg.params import Params, ParamsError, load_params, redact
from fmbseg.section import Section

PARAMS = Path(__file__).parents[2] / "params.yaml"


def test_the_shipped_file_holds_every_key_and_is_frozen():
    params = load_params(PARAMS)
    with pytest.raises(Exception, match="frozen"):
        params.seed = 1


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"train.epoch": 3}, "train.epoch: unknown key; did you mean train.epochs?"),
        ({"trian.epochs": 3}, "trian: unknown key; did you mean train?"),
        (
            {"evaluate.column_images": 3},
            "evaluate.column_images: unknown key; did you mean evaluate.view_images?",
        ),
        ({"epochs": 3}, "epochs: unknown key; did you mean train.epochs?"),
        ({"zorb": 3}, "zorb: unknown key"),
        ({"train.epochs": 0}, "train.epochs: found 0; input should be greater"),
        ({"subsample.keep_fraction": "most"}, "subsample.keep_fraction: found 'most'"),
        ({"subsample.keep_fraction": 1.5}, "subsample.keep_fraction: found 1.5"),
        ({"models.profile": "papre"}, "models.profile: found 'papre'"),
        (
            {"models.clip": {"nam": "x"}},
            "models.clip.nam: unknown key; did you mean models.clip.name?",
        ),
        ({"models.template": "a photo"}, "models.template: found 'a photo'"),
        ({"evaluate.methods": ["fmbsegg"]}, "evaluate.methods.0: found 'fmbsegg'"),
        ({"device": "gpu"}, "device: found 'gpu'; wanted auto, cpu, cuda, cuda:<number> or mps"),
        ({"train.learning_rate": "fast"}, "train.learning_rate: found 'fast'"),
    ],
)
def test_a_bad_value_is_one_short_line_with_its_dotted_key(override, words):
    with pytest.raises(ParamsError) as caught:
        load_params(PARAMS, override)
    message = str(caught.value)
    assert message.startswith(words)
    assert "\n" not in message
    assert len(message) < 240


def test_a_missing_file_and_broken_yaml_say_so(tmp_path):
    with pytest.raises(ParamsError, match="no such file"):
        load_params(tmp_path / "params.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("seed: [1")
    with pytest.raises(ParamsError, match="not valid YAML"):
        load_params(broken)
    broken.write_text("just words")
    with pytest.raises(ParamsError, match="no sections"):
        load_params(broken)


@pytest.mark.parametrize(
    "override",
    [{"data.drops": "../elsewhere"}, {"data.drops": "data/../../x"},
     {"data.corrections": "../elsewhere"},
     {"evaluate.data_sets": ["../../x"]}, {"evaluate.data_sets": ["/etc"]},
     {"tracking.registered_model": "../x"}],
)  # fmt: skip
def test_names_never_lead_out_of_the_workspace(override):
    (key,) = override
    with pytest.raises(ParamsError, match=rf"^{key}(\.0)?: found '.+'; "):
        load_params(PARAMS, override)
    assert load_params(PARAMS, {"data.drops": "/mnt/camera"}).data.drops == "/mnt/camera"


def test_a_misspelt_key_is_named_before_the_missing_one_it_stands_for(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(PARAMS.read_text().replace("  epochs: auto", "  epoch: 30"))
    with pytest.raises(ParamsError) as caught:
        load_params(path)
    assert str(caught.value) == "train.epoch: unknown key; did you mean train.epochs?"


def test_a_key_that_stands_twice_in_its_section_fails_at_once_with_both_lines(tmp_path):
    path = tmp_path / "params.yaml"
    lines = PARAMS.read_text().splitlines()
    (first,) = [number for number, line in enumerate(lines, 1) if line.startswith("  epochs:")]
    path.write_text("\n".join([*lines[:first], "  epochs: 3", *lines[first:]]))
    wanted = f"the key epochs stands twice in its section, in lines {first} and {first + 1}"
    with pytest.raises(ParamsError, match=wanted):
        load_params(path)
    path.write_text("\n".join([*lines, "train: {epochs: 3}"]))
    with pytest.raises(ParamsError, match=r"the key train stands twice"):
        load_params(path)


def test_keep_fraction_takes_the_word_balance_or_a_share():
    assert load_params(PARAMS).subsample.keep_fraction == "balance"
    assert load_params(PARAMS, {"subsample.keep_fraction": 0.25}).subsample.keep_fraction == 0.25


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://me:hidden@host/db", "postgresql://***@host/db"),
        ("postgresql+psycopg://me:hid/d@en@host:1/db", "postgresql+psycopg://***@host:1/db"),
        ("http://hidden@host:5000", "http://***@host:5000"),
        ("failed at http://a:hidden@h1 and http://b:hidden@h2/x", "failed at http://***@h1 and "
         "http://***@h2/x"),
        ("https://host/api?token=hidden&page=2", "https://host/api?token=***&page=2"),
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
        ("file:///photos/me@home/x", "file:///photos/me@home/x"),
        ("models:/fmbseg@champion", "models:/fmbseg@champion"),
    ],
)  # fmt: skip
def test_credentials_in_uris_are_not_shown(text, shown):
    assert redact(text) == shown


def test_the_public_tree_is_the_whole_tree_without_credentials():
    params = load_params(PARAMS, {"tracking.uri": "http://me:hidden@host", "data.images": "ä/b"})
    public = params.public()
    assert public["tracking"]["uri"] == "http://***@host"
    assert public["data"]["images"] == "ä/b"
    assert set(public) == set(params.model_dump())
    assert public["train"]["epochs"] == params.train.epochs
    assert "hidden" not in str(public)


def test_every_comment_of_the_shipped_file_is_the_help_text_of_its_key_and_none_lacks_one():
    model: type[Section] = Params
    wrong: list[str] = []
    for number, line in enumerate(PARAMS.read_text().splitlines(), 1):
        found = re.fullmatch(r"( *)(\w+):(.*?)(?: +# (.*))?", line)
        if found is None or line.startswith("#"):
            continue
        indent, key, _, comment = found.groups()
        info = (model if indent else Params).model_fields[key]
        if isinstance(info.annotation, type) and issubclass(info.annotation, Section):
            model = info.annotation
        elif comment != " ".join((info.description or "").split()):
            wrong.append(f"line {number}, {key}: found {comment!r}; wanted {info.description!r}")
    assert wrong == []


def test_choices_are_the_names_in_the_tables_that_they_choose_from():
    def choices(section: type[Section], key: str) -> set[str]:
        return set(get_args(section.model_fields[key].annotation))

    assert set(get_args(Loss)) == set(LOSSES)
    assert choices(EvaluateParams, "protocol") == set(PROTOCOLS)
    assert choices(ModelsParams, "projection") == set(PROJECTIONS) - {"plain"}
    assert choices(ModelsParams, "profile") == set(PROFILES)


def test_a_training_without_a_seed_of_its_own_has_the_runs():
    assert load_params(PARAMS, {"seed": 5}).train.seed == 5
    assert load_params(PARAMS, {"seed": 5, "train.seed": 7}).train.seed == 7


def test_unknown_methods_are_refused_with_the_names_of_the_table():
    for key in ("evaluate.methods", "tracking.primary_method"):
        value = ["fmbsegg"] if key == "evaluate.methods" else "fmbsegg"
        with pytest.raises(ParamsError, match=r"wanted one of maskclip, .*fmbseg"):
            load_params(PARAMS, {key: value})
