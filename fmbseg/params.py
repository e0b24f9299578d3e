"""params.yaml, read once into frozen sections. Defaults live in params.yaml alone."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, WithJsonSchema

from fmbseg.methods.table import METHODS
from fmbseg.paper import resolve
from fmbseg.params_yaml import ParamsError as ParamsError
from fmbseg.params_yaml import describe, read_tree

DECIDES_OUTPUTS = False
"""Keys hold the values themselves, so this file is no part of them (see `fmbseg.steps.code`)."""
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]
Positive = Annotated[int, Field(ge=1)]
Loss = Literal["prototype_supcon", "cross_entropy", "clip"]
Projection = Literal["maskclip", "sclip", "naclip"]
_DEVICE = re.compile(r"auto|cpu|mps|cuda(:\d+)?")
_LOGIN = re.compile(r"""(?<=://)([^\s"'<>/]*:[^\s"'<>]*|[^\s"'<>/]*)@""")
_QUERY_SECRET = re.compile(
    r"""([?&](?:password|passwd|pwd|token|secret|api_?key|access_key|signature|sig)=)[^&\s"'<>]+""",
    re.IGNORECASE,
)


def _known_device(device: str) -> str:
    if _DEVICE.fullmatch(device) is None:
        raise ValueError("wanted auto, cpu, cuda, cuda:<number> or mps")
    return device


def _known_method(name: str) -> str:
    if name not in METHODS:
        raise ValueError(f"wanted one of {', '.join(METHODS)}")
    return name


def _stays_inside(folder: str) -> str:
    if not Path(folder).is_absolute() and ".." in Path(folder).parts:
        raise ValueError("wanted a folder inside the workspace, or the full path of another one")
    return folder


MethodName = Annotated[
    str, AfterValidator(_known_method), WithJsonSchema({"type": "string", "enum": list(METHODS)})
]


class Section(BaseModel):
    """Base of every section: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DataParams(Section):
    """Which images and classes; `labels` serve evaluation alone."""

    images: str
    classes: str
    labels: str | None
    ignore_label: Annotated[int, Field(ge=0, le=65535)]
    train_images: Positive
    val_images: Positive
    test_images: Positive
    shard_images: Positive
    drops: Annotated[str, Field(min_length=1), AfterValidator(_stays_inside)]
    benchmarks: Annotated[str, Field(min_length=1)]
    max_megapixels: Annotated[float, Field(gt=0.0, le=1000.0)]
    max_quarantined_fraction: Fraction


class ModelSpec(Section):
    """One model's keys in place of the profile's; a key that is left out stays the profile's."""

    name: str | None = None
    pretrained: str | None = None
    checkpoint: str | None = None
    quick_gelu: bool | None = None


class ModelsParams(Section):
    """The three frozen foundation models: a named profile, overridden key by key."""

    profile: Literal["miniature", "base", "paper"]
    clip: ModelSpec | None
    sam: ModelSpec | None
    vision: ModelSpec | None
    projection: Projection
    template: Annotated[str, Field(pattern=r"\{\}")]


class PseudoMasksParams(Section):
    """Stage 1. Paper: section 3.1."""

    clip_short_side_px: Literal["auto"] | Annotated[int, Field(ge=16)]
    clip_stride_fraction: Annotated[float, Field(gt=0.0, le=1.0)]
    clip_batch_crops: Positive
    presence_votes: Annotated[int, Field(ge=0)]
    prompt_points: Positive
    points_together: bool
    points_per_side: Literal["auto"] | Annotated[int, Field(ge=1, le=128)]
    min_predicted_iou: Fraction
    min_stability: Fraction
    stability_offset: Annotated[float, Field(gt=0.0)]
    nms_iou: Fraction
    min_area_fraction: Fraction
    max_area_fraction: Fraction


class SubsampleParams(Section):
    """How much of stage 1.2 is kept."""

    keep_fraction: Literal["balance"] | Fraction


class TrainParams(Section):
    """Stage 2. Paper: section 3.2; values not published there were tuned on the miniature."""

    seed: Annotated[int, Field(ge=0)] | None
    loss: Loss
    temperature: Annotated[float, Field(gt=0.0)]
    epochs: Positive
    batch_images: Positive
    learning_rate: Annotated[float, Field(gt=0.0)]
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)]
    weight_decay: Annotated[float, Field(ge=0.0)]
    max_grad_norm: Annotated[float, Field(gt=0.0)] | None
    warm_up_fraction: Annotated[float, Field(ge=0.0, lt=1.0)]
    hold_rate_from: Annotated[float, Field(ge=0.0, le=1.0)] | None
    average_over: Annotated[float, Field(gt=0.0)] | None
    heads: Positive
    mlp_ratio: Annotated[float, Field(gt=0.0)]
    input_short_side_px: Literal["auto"] | Annotated[int, Field(ge=16)]
    patches_per_image: Positive | None
    chunk_patches: Positive
    save_every_seconds: Annotated[float, Field(ge=0.0)]
    validation_images: Annotated[int, Field(ge=0)]
    feature_cache_gb: Annotated[float, Field(ge=0.0)]
    init_from: str | None
    labels: Literal["pseudo", "truth"]


class EvaluateParams(Section):
    """Methods and the protocol their figures belong to."""

    methods: tuple[MethodName, ...] = Field(min_length=1)
    data_sets: tuple[Annotated[str, Field(pattern=r"^\w+$")], ...] = Field(min_length=1)
    split: Literal["val", "test"]
    view_images: Positive
    protocol: Literal["whole", "tcl", "sclip", "sclip_stuff", "sclip_city"]
    templates: Literal["protocol", "model"]
    background: Literal["protocol", "ignore", "stuff_names"]
    synonyms: Literal["protocol", "none", "mean", "max"]
    examples: Annotated[int, Field(ge=0)]


class ReportParams(Section):
    """The static report."""

    gallery_images: Annotated[int, Field(ge=0)]


class RunnerParams(Section):
    """How shards and evaluations are mapped."""

    kind: Literal["threads", "dask"]
    workers: Annotated[int, Field(ge=1, le=256)]
    dask_address: str | None


class DropsParams(Section):
    """The watch over `data.drops`."""

    interval_seconds: Annotated[float, Field(ge=1.0)]
    settle_seconds: Annotated[float, Field(ge=0.0)]
    max_attempts: Positive


class TrackingParams(Section):
    """Where MLflow writes, and which figure decides on the champion."""

    uri: str
    experiment: str
    registered_model: Annotated[str, Field(pattern=r"^[\w .-]+$")]
    primary_method: MethodName
    champion_margin: Fraction


class Params(Section):
    """The whole of params.yaml; every step is handed its own section only."""

    seed: Annotated[int, Field(ge=0)]
    device: Annotated[str, AfterValidator(_known_device)]
    threads: Positive
    data: DataParams
    models: ModelsParams
    pseudo_masks: PseudoMasksParams
    subsample: SubsampleParams
    train: TrainParams
    evaluate: EvaluateParams
    report: ReportParams
    runner: RunnerParams
    drops: DropsParams
    tracking: TrackingParams

    def public(self) -> dict[str, Any]:
        """The whole tree as JSON values, fit to be shown: credentials in URIs are `***`."""
        tree: dict[str, Any] = _redacted(self.model_dump(mode="json"))
        return tree


def redact(text: str) -> str:
    """Replace credentials in URIs: `scheme://user:password@host` and secrets in a query.

    Where a password holds characters that end a URI's authority, too much is replaced rather
    than too little.

    Args:
        text: a URI, or any text with URIs in it.

    Returns:
        The text with `***` in their place.
    """
    return _QUERY_SECRET.sub(r"\1***", _LOGIN.sub("***@", text))


def _redacted(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _redacted(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_redacted(inner) for inner in value]
    return redact(value) if isinstance(value, str) else value


def load_params(path: str | Path, overrides: dict[str, Any] | None = None) -> Params:
    """Read and check params.yaml.

    Args:
        path: the YAML file.
        overrides: dotted key to value, laid over the file (`{"train.epochs": 3}`).

    Returns:
        The frozen sections; `auto` is resolved where the profile decides (`fmbseg.paper.AUTO`).

    Raises:
        ParamsError: no file, no YAML, an unknown key or a bad value; one line with the dotted key.
    """
    tree = read_tree(Path(path))
    for dotted, value in (overrides or {}).items():
        *sections, key = dotted.split(".")
        branch = tree
        for section in sections:
            branch = branch.setdefault(section, {})
            if not isinstance(branch, dict):
                raise ParamsError(f"{dotted}: {section} is a value, not a section")
        branch[key] = value
    try:
        return Params.model_validate(resolve(tree))
    except ValidationError as error:
        raise ParamsError(describe(error, Params)) from None
