"""params.yaml, read once into frozen sections. Defaults live in params.yaml alone."""

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, ValidationError

from fmbseg.align.settings import TrainParams
from fmbseg.evaluate.settings import EvaluateParams, MethodName
from fmbseg.export.settings import ExportParams
from fmbseg.models.settings import ModelsParams, RuntimeParams
from fmbseg.paper import resolve
from fmbseg.params_yaml import ParamsError as ParamsError
from fmbseg.params_yaml import describe, read_tree
from fmbseg.pseudo.settings import PseudoMasksParams, SubsampleParams
from fmbseg.section import Fraction, Positive, Section, Seed

DECIDES_OUTPUTS = False
"""Keys hold the values themselves, so this file is no part of them (see `fmbseg.steps.code`)."""
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


def _stays_inside(folder: str) -> str:
    if not Path(folder).is_absolute() and ".." in Path(folder).parts:
        raise ValueError("wanted a folder inside the workspace, or the full path of another one")
    return folder


class DataParams(Section):
    """Which images and classes; `labels` serve evaluation alone."""

    images: str
    """a folder of images (any depth), or miniature, the shipped world"""
    classes: str
    """a text file: one class a line, synonyms after commas; or miniature"""
    labels: str | None
    """folder of PNGs with the images' stems: class index per pixel (evaluation only)"""
    ignore_label: Annotated[int, Field(ge=0, le=65535)]
    """the number in label files that stands for no label"""
    train_images: Positive
    """miniature only: unlabelled training images to draw"""
    val_images: Positive
    """miniature only: images of the validation split"""
    test_images: Positive
    """miniature only: images of the test split"""
    shard_images: Positive
    """images per shard (the unit of caching in stage 1)"""
    drops: Annotated[str, Field(min_length=1), AfterValidator(_stays_inside)]
    """new images that arrive here are trained on too"""
    corrections: Annotated[str, Field(min_length=1), AfterValidator(_stays_inside)]
    """what people put right, a file an image (docs/corrections.md)"""
    corrections_held_out_fraction: Fraction
    """of the corrected images is never trained on: the mIoU on them judges the models"""
    benchmarks: Annotated[str, Field(min_length=1)]
    """where public data sets are installed"""
    max_megapixels: Annotated[float, Field(gt=0.0, le=1000.0)]
    """a larger image is quarantined, not decoded"""
    max_quarantined_fraction: Fraction
    """more bad images than this end the run"""


class ReportParams(Section):
    """The static report."""

    gallery_images: Annotated[int, Field(ge=0)]
    """training images shown with their pseudo masks, and as many of the most doubtful ones"""


class RunnerParams(Section):
    """How shards and evaluations are mapped."""

    kind: Literal["threads", "dask"]
    """threads | dask: how shards and evaluations are mapped"""
    workers: Annotated[int, Field(ge=1, le=256)]
    """threads, or processes of a Dask cluster started for the run"""
    dask_address: str | None
    """of a running scheduler (tcp://host:8786); FMBSEG_DASK_ADDRESS goes first"""


class DropsParams(Section):
    """The watch over `data.drops` and `data.corrections`."""

    interval_seconds: Annotated[float, Field(ge=1.0)]
    """how often the deployment `drops` looks into data.drops and data.corrections"""
    settle_seconds: Annotated[float, Field(ge=0.0)]
    """files that change within this time are still being copied"""
    corrections_settle_seconds: Annotated[float, Field(ge=0.0)]
    """corrections start a run once none was accepted for this long: people do several in a row"""
    max_attempts: Positive
    """full runs started for the same images before it gives up"""


class TrackingParams(Section):
    """Where MLflow writes, and which figure decides on the champion."""

    uri: str
    """of MLflow: a database, or the address of a server"""
    experiment: str
    """of MLflow, which the runs are filed under"""
    registered_model: Annotated[str, Field(pattern=r"^[\w .-]+$")]
    """auto: one for each data set, fmbseg-miniature or fmbseg-<folder of images>"""
    primary_method: MethodName
    """whose mIoU decides which version holds the alias `champion`"""
    champion_margin: Fraction
    """the mIoU must rise by more than this: seeds alone move it that much"""


class Params(Section):
    """The whole of params.yaml; every step is handed its own section only."""

    seed: Seed
    """of every random choice"""
    device: Annotated[str, AfterValidator(_known_device)]
    """auto | cpu | cuda | mps"""
    threads: Positive
    """of torch in each process; another number changes last digits"""
    runtime: RuntimeParams
    data: DataParams
    models: ModelsParams
    pseudo_masks: PseudoMasksParams
    subsample: SubsampleParams
    train: TrainParams
    evaluate: EvaluateParams
    report: ReportParams
    export: ExportParams
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
        The frozen sections; `auto` is resolved where the profile decides (`fmbseg.paper.AUTO`), and
        `train.seed` is the run's seed where it is null.

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
        return Params.model_validate(_with_train_seed(resolve(tree)))
    except ValidationError as error:
        raise ParamsError(describe(error, Params)) from None


def _with_train_seed(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree with the run's seed where the training has none of its own."""
    train = tree.get("train")
    if isinstance(train, dict) and "seed" in train and train["seed"] is None:
        return {**tree, "train": {**train, "seed": tree.get("seed")}}
    return tree
