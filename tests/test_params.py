from pathlib import Path

import pytest

from fmbseg.params import ParamsError, load_params, redact

PARAMS = Path(__file__).parents[1] / "params.yaml"


def test_the_shipped_file_holds_every_key_and_is_frozen():
    params = load_params(PARAMS)
    with pytest.raises(Exception, match="frozen"):
        params.seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ({"train.epoch": 3}, "train.epoch: unknown key"),
        ({"trian.epochs": 3}, "trian: unknown key"),
        ({"train.epochs": 0}, "train.epochs: found 0; input should be greater"),
        ({"subsample.keep_fraction": "most"}, "subsample.keep_fraction: found 'most'"),
        ({"subsample.keep_fraction": 1.5}, "subsample.keep_fraction: found 1.5"),
        ({"models.profile": "papre"}, "models.profile: found 'papre'"),
        ({"models.clip": {"nam": "ViT-B-16"}}, "models.clip.name: missing"),
        ({"models.template": "a photo"}, "models.template: found 'a photo'"),
        ({"evaluate.methods": ["fmbsegg"]}, "evaluate.methods.0: found 'fmbsegg'"),
        ({"device": "gpu"}, "device: found 'gpu'"),
        ({"train.learning_rate": "fast"}, "train.learning_rate: found 'fast'"),
    ],
)
def test_a_bad_value_is_one_short_line_with_its_dotted_key(override, words):
    with pytest.raises(ParamsError) as caught:
        load_params(PARAMS, override)
    message = str(caught.value)
    assert message.startswith(words)
    assert "\n" not in message
    assert len(message) < 200


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
