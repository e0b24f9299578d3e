"""The form of the deployment `full`: what one run takes in place of params.yaml's values."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer
from ruamel.yaml import YAML

from fmbseg.params import Fraction, Loss, MethodName, ParamsError, load_params


def _field(key: str, help_text: str, **bounds: Any) -> Any:
    return Field(default=None, title=key, description=help_text, **bounds)


def _show_todays_values(schema: dict[str, Any]) -> None:
    """Put params.yaml's values of this moment into the form, as its fields' defaults."""
    try:
        tree = load_params("params.yaml").public()
    except ParamsError:
        return
    for field in schema["properties"].values():
        value: Any = tree
        for part in str(field["title"]).split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            field["default"] = value


class Parameters(BaseModel):
    """What one run takes in place of params.yaml's values; a field left empty takes those.

    The title of a field is its key in params.yaml.
    """

    model_config = ConfigDict(extra="forbid", json_schema_extra=_show_todays_values)

    images: str | None = _field(
        "data.images", "A folder of images (any depth), or `miniature` for the shipped world."
    )
    classes: str | None = _field(
        "data.classes", "A text file: one class a line, synonyms after commas; or `miniature`."
    )
    labels: str | None = _field(
        "data.labels", "A folder of label PNGs with the images' stems, to score with; optional."
    )
    ignore_label: int | None = _field(
        "data.ignore_label", 'The number in the labels that means "no label".', ge=0, le=65535
    )
    seed: int | None = _field("seed", "Of every random choice.", ge=0)
    profile: Literal["miniature", "base", "paper"] | None = _field(
        "models.profile", "Which CLIP, SAM and vision encoder."
    )
    presence_votes: int | None = _field(
        "pseudo_masks.presence_votes",
        "A class is present when more crops than this vote for it.", ge=0,
    )  # fmt: skip
    min_predicted_iou: float | None = _field(
        "pseudo_masks.min_predicted_iou", "SAM's own estimate; masks below it go.", ge=0.0, le=1.0
    )
    keep_fraction: Literal["balance"] | Fraction | None = _field(
        "subsample.keep_fraction", "Of stage 1.2's masks: `balance`, or a share from 0 to 1."
    )
    loss: Loss | None = _field("train.loss", "Of the alignment; the paper's is prototype_supcon.")
    epochs: int | None = _field("train.epochs", "Passes over the images.", ge=1, le=10_000)
    learning_rate: float | None = _field("train.learning_rate", "Its peak.", gt=0.0, le=10.0)
    init_from: str | None = _field(
        "train.init_from", "Start from these weights: `champion`, or the folder of a trained model."
    )
    methods: list[MethodName] | None = _field("evaluate.methods", "What is scored.", min_length=1)
    runner: Literal["threads", "dask"] | None = _field(
        "runner.kind", "Map shards and evaluations over threads or a Dask cluster."
    )
    workers: int | None = _field("runner.workers", "Threads or Dask workers.", ge=1, le=256)
    others: dict[str, Any] = Field(
        default_factory=dict,
        title="any other key",
        description='Dotted keys of params.yaml, such as {"pseudo_masks.prompt_points": 7}.',
    )

    keep: bool = Field(
        default=False,
        title="keep in params.yaml",
        description="Write what is filled in to params.yaml once the run has succeeded. Without "
        "it, it is this run's alone.",
    )

    def overrides(self, shown: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Map the dotted key of every field that was filled in to its value.

        Args:
            shown: field to value, as the form showed them before they were changed.
        """
        left_alone = self.left_alone(shown or {})
        return {
            key: value for key, value in self._given().items() if key not in left_alone
        } | self.others

    def left_alone(self, shown: Mapping[str, Any]) -> dict[str, Any]:
        """Map the dotted key of every field that was sent unchanged to its value.

        A form sends all its fields; who sends a few by hand means each of them.
        """
        fields = type(self).model_fields
        expected = {str(fields[name].title): shown[name] for name in shown.keys() & fields.keys()}
        given = self._given()
        if 2 * len(expected.keys() & given.keys()) <= len(expected):
            return {}
        return {key: value for key, value in expected.items() if given.get(key) == value}

    def _given(self) -> dict[str, Any]:
        values = {
            str(field.title): getattr(self, name)
            for name, field in type(self).model_fields.items()
            if name not in ("others", "keep")
        }
        return {key: value for key, value in values.items() if value is not None}

    @model_serializer(mode="wrap")
    def _without_empty_fields(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Empty fields are left out, so that a form has room for the values of today."""
        return {name: value for name, value in handler(self).items() if value is not None}


NO_CHANGES = Parameters()


def write_params(path: Path, overrides: dict[str, Any]) -> None:
    """Lay dotted keys over a params.yaml, keeping its comments; nothing is written on a bad value.

    Raises:
        ParamsError: an unknown key or a bad value.
    """
    if not overrides:
        return
    load_params(path, overrides)
    with FileLock(path.parent / ".scratch" / "params.lock"):
        lay_over(path, overrides, path)


def lay_over(path: Path, overrides: Mapping[str, Any], target: Path) -> None:
    """Write a params.yaml with dotted keys laid over it, comments kept, to another file.

    Args:
        path: of the params.yaml.
        overrides: dotted key to value.
        target: of what is written; where it is the same file, only if something changed.

    Raises:
        ParamsError: an unknown key or a bad value; nothing is written.
    """
    load_params(path, dict(overrides))
    yaml = _yaml()
    tree, changed = yaml.load(path), target != path
    for dotted, value in overrides.items():
        *sections, key = dotted.split(".")
        branch = tree
        for section in sections:
            branch = branch[section]
        if branch.get(key) != value:
            branch[key], changed = value, True
    if changed:
        temporary = target.parent / f".{target.name}.{os.getpid()}"
        yaml.dump(tree, temporary)
        os.replace(temporary, target)


def _yaml() -> YAML:
    """Reads and writes YAML as DVC does, so that lines that are not changed stay as they are."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    return yaml
