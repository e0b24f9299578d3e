import threading
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from flows.parameters import Parameters
from fmbseg.params import ParamsError, load_params
from fmbseg.params_edit import write_params
from tests.conftest import REPOSITORY


@pytest.fixture
def params(tmp_path: Path) -> Path:
    path = tmp_path / "params.yaml"
    path.write_bytes((REPOSITORY / "params.yaml").read_bytes())
    return path


def form() -> dict[str, Any]:
    """The JSON schema that the deployment's form is drawn from."""
    from flows.pipeline import fmbseg

    schema: dict[str, Any] = fmbseg.parameters.model_dump()
    return schema


def choices(field: dict[str, Any]) -> list[dict[str, Any]]:
    """What a field takes besides nothing."""
    return [one for one in field["anyOf"] if one.get("type") != "null"]


def test_every_field_of_the_form_has_a_help_text_and_a_key_of_params_yaml():
    fields = form()["definitions"]["Parameters"]["properties"]
    tree = yaml.safe_load((REPOSITORY / "params.yaml").read_text())
    for name, field in fields.items():
        assert len(field["description"]) > 5, name
        if name in ("others", "keep"):
            continue
        branch = tree
        for part in field["title"].split("."):
            assert part in branch, field["title"]
            branch = branch[part]
    assert set(form()["properties"]) == {"root", "parameters"}
    assert form()["properties"]["root"]["description"]


def test_the_form_holds_bounds_and_choices():
    fields = form()["definitions"]["Parameters"]["properties"]
    (epochs,) = choices(fields["epochs"])
    assert (epochs["type"], epochs["minimum"], epochs["maximum"]) == ("integer", 1, 10_000)
    (rate,) = choices(fields["learning_rate"])
    assert (rate["exclusiveMinimum"], rate["maximum"]) == (0, 10)
    balance, share = choices(fields["keep_fraction"])
    assert (balance["const"], share["minimum"], share["maximum"]) == ("balance", 0, 1)
    (profile,) = choices(fields["profile"])
    assert profile["enum"] == ["miniature", "base", "paper"]
    (loss,) = choices(fields["loss"])
    assert loss["enum"] == ["prototype_supcon", "cross_entropy", "clip"]
    (methods,) = choices(fields["methods"])
    assert "fmbseg" in methods["items"]["enum"]
    assert form()["definitions"]["Parameters"]["additionalProperties"] is False


@pytest.mark.parametrize(
    "given",
    [{"epochs": 0}, {"keep_fraction": 1.5}, {"keep_fraction": "most"}, {"loss": "l2"},
     {"methods": []}, {"learning_rate": 0}, {"epoch": 3}],
)  # fmt: skip
def test_values_out_of_bounds_and_unknown_fields_are_refused(given: dict[str, Any]):
    with pytest.raises(ValidationError):
        Parameters(**given)


def test_what_is_filled_in_lands_in_params_yaml_with_all_comments_kept(params: Path):
    before = params.read_text().splitlines()
    given = Parameters(
        epochs=7, loss="clip", keep_fraction=0.25, others={"pseudo_masks.prompt_points": 3}
    )
    write_params(params, given.overrides())
    after = params.read_text().splitlines()
    changed = {line.split(":")[0].strip(): line for line in after if line not in before}
    assert set(changed) == {"epochs", "loss", "keep_fraction", "prompt_points"}
    assert len(after) == len(before)
    assert [line.partition("#")[2] for line in after] == [
        line.partition("#")[2] for line in before
    ], "every comment, and in its line"
    found = load_params(params)
    assert (found.train.epochs, found.train.loss) == (7, "clip")
    assert (found.subsample.keep_fraction, found.pseudo_masks.prompt_points) == (0.25, 3)


def test_values_that_stand_there_already_leave_the_file_untouched(params: Path):
    before = params.stat()
    write_params(params, {"data.labels": None})
    write_params(params, Parameters().overrides())
    write_params(params, {"train.batch_images": load_params(params).train.batch_images})
    after = params.stat()
    assert (before.st_mtime_ns, before.st_ino) == (after.st_mtime_ns, after.st_ino)


@pytest.mark.parametrize(
    ("others", "words"),
    [
        ({"train.epoch": 3}, "train.epoch: unknown key"),
        ({"train.epochs": 0}, "train.epochs: found 0"),
        ({"pseudo_masks.nms_iou": 7}, "pseudo_masks.nms_iou: found 7"),
        ({"seed.more": 1}, "seed is a value, not a section"),
    ],
)
def test_a_bad_key_or_value_leaves_params_yaml_as_it_was(
    params: Path, others: dict[str, Any], words: str
):
    before = params.read_bytes()
    with pytest.raises(ParamsError, match=words):
        write_params(params, Parameters(epochs=3, others=others).overrides())
    assert params.read_bytes() == before


def test_the_form_shows_todays_values_as_defaults(params: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(params.parent)
    write_params(params, {"train.epochs": 7, "data.ignore_label": 11})
    fields = Parameters.model_json_schema()["properties"]
    assert (fields["epochs"]["default"], fields["ignore_label"]["default"]) == (7, 11)
    assert fields["methods"]["default"] == ["maskclip", "stage1", "fmbseg"]
    write_params(params, {"train.epochs": "auto"})
    assert Parameters.model_json_schema()["properties"]["epochs"]["default"] is None
    assert fields["keep"]["default"] is False
    assert fields["labels"]["default"] is None
    assert Parameters(epochs=3).model_dump() == {"epochs": 3, "others": {}, "keep": False}
    params.write_text("seed: [1")
    assert Parameters.model_json_schema()["properties"]["epochs"]["default"] is None


def test_a_form_sent_with_stale_values_counts_only_what_was_changed_in_it():
    shown = {"seed": 0, "epochs": 30, "loss": "clip", "workers": 2}
    sent = Parameters(seed=0, epochs=30, loss="clip", workers=8)
    assert sent.overrides(shown) == {"runner.workers": 8}
    assert sent.left_alone(shown) == {"seed": 0, "train.epochs": 30, "train.loss": "clip"}
    by_hand = Parameters(epochs=30)
    assert by_hand.overrides(shown) == {"train.epochs": 30}, "said, though it is what was shown"


def test_changes_written_at_the_same_moment_all_arrive(params: Path):
    changes = {
        "train.epochs": 11, "train.batch_images": 12, "train.heads": 2, "seed": 13,
        "evaluate.examples": 14, "report.gallery_images": 15, "data.shard_images": 16,
        "pseudo_masks.prompt_points": 17,
    }  # fmt: skip
    threads = [
        threading.Thread(target=write_params, args=(params, {key: value}))
        for key, value in changes.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = load_params(params).model_dump()
    for key, value in changes.items():
        branch: Any = found
        for part in key.split("."):
            branch = branch[part]
        assert branch == value, key
    assert not [p for p in params.parent.iterdir() if p.name.startswith(".params")]
