"""The form of the deployment `full`: changes to params.yaml, written there before the run."""

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from ruamel.yaml import YAML

from fmbseg.params import Fraction, Loss, Method, Params, load_params
from fmbseg.steps.download import check
from fmbseg.steps.workspace import Workspace
from fmbseg.store import file_sha


def _field(key: str, help_text: str, **bounds: Any) -> Any:
    return Field(default=None, title=key, description=help_text, **bounds)


class Parameters(BaseModel):
    """What a run changes in params.yaml; a field left empty keeps what stands there.

    The title of a field is its key in params.yaml.
    """

    model_config = ConfigDict(extra="forbid")

    images: str | None = _field(
        "data.images", "A folder of images (any depth), or `miniature` for the shipped world."
    )
    classes: str | None = _field(
        "data.classes", "A text file: one class a line, synonyms after commas; or `miniature`."
    )
    labels: str | None = _field(
        "data.labels", "A folder of label PNGs with the images' stems, to score with; optional."
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
    methods: list[Method] | None = _field("evaluate.methods", "What is scored.", min_length=1)
    runner: Literal["threads", "dask"] | None = _field(
        "runner.kind", "Map shards and evaluations over threads or a Dask cluster."
    )
    workers: int | None = _field("runner.workers", "Threads or Dask workers.", ge=1, le=256)
    others: dict[str, Any] = Field(
        default_factory=dict,
        title="any other key",
        description='Dotted keys of params.yaml, such as {"pseudo_masks.prompt_points": 7}.',
    )

    def overrides(self) -> dict[str, Any]:
        """Dotted key to value of what was filled in."""
        named = {
            str(field.title): getattr(self, name)
            for name, field in type(self).model_fields.items()
            if name != "others" and getattr(self, name) is not None
        }
        return named | self.others


NO_CHANGES = Parameters()


@dataclass(frozen=True)
class Began:
    """What a run started with.

    Attributes:
        params: the checked sections.
        params_sha: SHA-256 of params.yaml.
    """

    params: Params
    params_sha: str


def prepare(root: str, parameters: Parameters) -> Began:
    """Write the changes to params.yaml and check what no step could use.

    Raises:
        ParamsError: a parameter is unknown or out of range; params.yaml is left as it was.
        DataError: images, classes or labels are not there.
        VocabularyError: the class file cannot be used.
    """
    path = Path(root) / "params.yaml"
    write_params(path, parameters.overrides())
    check(Workspace.open(root))
    return Began(load_params(path), file_sha(path))


def write_params(path: Path, overrides: dict[str, Any]) -> None:
    """Lay dotted keys over a params.yaml, keeping its comments; nothing is written on a bad value.

    Raises:
        ParamsError: an unknown key or a bad value.
    """
    if not overrides:
        return
    load_params(path, overrides)
    turn = path.parent / ".scratch" / "params.lock"
    turn.parent.mkdir(exist_ok=True)
    with turn.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        load_params(path, overrides)
        yaml = _yaml()
        tree, changed = yaml.load(path), False
        for dotted, value in overrides.items():
            *sections, key = dotted.split(".")
            branch = tree
            for section in sections:
                branch = branch[section]
            if branch.get(key) != value:
                branch[key], changed = value, True
        if changed:
            temporary = path.parent / f".{path.name}.{os.getpid()}"
            yaml.dump(tree, temporary)
            os.replace(temporary, path)


def _yaml() -> YAML:
    """Reads and writes YAML as DVC does, so that lines that are not changed stay as they are."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    return yaml
