"""The form of the deployment `full`: what one run takes in place of params.yaml's values."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    create_model,
    model_serializer,
)

from fmbseg.params import Params, ParamsError, load_params
from fmbseg.params_yaml import read_tree, value_at

FORM = {
    "images": "data.images",
    "classes": "data.classes",
    "labels": "data.labels",
    "ignore_label": "data.ignore_label",
    "seed": "seed",
    "profile": "models.profile",
    "presence_votes": "pseudo_masks.presence_votes",
    "min_predicted_iou": "pseudo_masks.min_predicted_iou",
    "keep_fraction": "subsample.keep_fraction",
    "loss": "train.loss",
    "epochs": "train.epochs",
    "learning_rate": "train.learning_rate",
    "init_from": "train.init_from",
    "methods": "evaluate.methods",
    "runner": "runner.kind",
    "workers": "runner.workers",
}
"""Field of the form to the key of params.yaml whose bounds, choices and help text it takes."""


def _optional(key: str) -> tuple[Any, Any]:
    """A key of params.yaml as a field of the form, which may stay empty."""
    section: Any = Params
    *names, last = key.split(".")
    for name in names:
        section = section.model_fields[name].annotation
    info = section.model_fields[last]
    kind = Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
    help_text = " ".join(str(info.description).split())
    return kind | None, Field(default=None, title=key, description=help_text)


def _show_todays_values(schema: dict[str, Any]) -> None:
    """Put params.yaml's values of this moment into the form; those that are `auto` stay empty."""
    try:
        raw, tree = read_tree(Path("params.yaml")), load_params("params.yaml").public()
    except ParamsError:
        return
    for field in schema["properties"].values():
        key = str(field["title"])
        value = value_at(tree, key)
        if value is not None and value_at(raw, key) != "auto":
            field["default"] = value


_FIELDS: dict[str, Any] = {name: _optional(key) for name, key in FORM.items()}
_Fields: Any = create_model("_Fields", **_FIELDS)


class Parameters(_Fields):  # type: ignore[misc]
    """What one run takes in place of params.yaml's values; a field left empty takes those.

    The title of a field is its key in params.yaml.
    """

    model_config = ConfigDict(extra="forbid", json_schema_extra=_show_todays_values)

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
        expected = {FORM[name]: shown[name] for name in shown.keys() & FORM.keys()}
        given = self._given()
        if 2 * len(expected.keys() & given.keys()) <= len(expected):
            return {}
        return {key: value for key, value in expected.items() if given.get(key) == value}

    def _given(self) -> dict[str, Any]:
        given = self.model_dump(mode="json", exclude={"others", "keep"})
        return {FORM[name]: value for name, value in given.items()}

    @model_serializer(mode="wrap")
    def _without_empty_fields(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Empty fields are left out, so that a form has room for the values of today."""
        return {name: value for name, value in handler(self).items() if value is not None}


NO_CHANGES = Parameters()
