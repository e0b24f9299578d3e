"""How the alignment head is trained: the section `train` of params.yaml."""

from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from fmbseg.section import Fraction, Positive, Section, Seed

WEIGHTS = "alignment.safetensors"
CONFIG = "alignment.json"
DESCRIPTION = "segmenter.json"
"""Files of a trained folder: the head's weights and sizes, and which models they belong to."""
Loss = Literal["prototype_supcon", "cross_entropy", "clip"]
"""The names in `fmbseg.align.loss.LOSSES`."""


class TrainParams(Section):
    """Stage 2. Paper: section 3.2; values not published there were tuned on the miniature."""

    seed: Seed
    """of the weights, the order of the images and the draws; null: the run's own, above"""
    loss: Loss
    """prototype_supcon | cross_entropy | clip; the paper's is prototype_supcon"""
    temperature: Annotated[float, Field(gt=0.0)]
    """of the loss"""
    epochs: Annotated[int, Field(ge=1, le=10_000)]
    """passes over the images with a labelled patch; auto: 10 with the profile paper, as published,
    else 30"""
    batch_images: Positive
    """images per step"""
    learning_rate: Annotated[float, Field(gt=0.0, le=10.0)]
    """its peak, after the warm-up; then it falls on a cosine"""
    momentum: Annotated[float, Field(ge=0.0, lt=1.0)]
    """of SGD"""
    weight_decay: Annotated[float, Field(ge=0.0)]
    """of SGD, on matrices alone"""
    max_grad_norm: Annotated[float, Field(gt=0.0)] | None
    """a step's gradient, over all weights, is shortened to this length; null: never; auto: null
    with the profile paper, else 1"""
    warm_up_fraction: Annotated[float, Field(ge=0.0, lt=1.0)]
    """the rate rises to its peak over this fraction of the steps; auto: 0 with the profile paper,
    else 0.02"""
    hold_rate_from: Fraction | None
    """the rate falls on a cosine until this fraction of the steps, then stays; null: it falls to 0;
    auto: null with the profile paper, else 0.5"""
    average_over: Annotated[float, Field(gt=0.0)] | None
    """the weights' moving average is saved: those of this fraction of the steps before the end
    count 1/e as much as the last; null: the last step's weights; auto: null with the profile paper,
    else 0.3"""
    heads: Positive
    """of the block's self-attention"""
    mlp_ratio: Annotated[float, Field(gt=0.0)]
    """width of the block's MLP over the encoder's"""
    patches_per_image: Positive | None
    """labelled patches drawn per image and step for the loss, the others still serve as keys and
    values of the self-attention; null: all; auto: null with the profile paper, as published, else
    16"""
    input_short_side_px: Literal["auto"] | Annotated[int, Field(ge=16)]
    """images are resized to this for the vision encoder; auto: the size its weights name"""
    chunk_patches: Positive
    """rows of the loss's similarity matrix held at once"""
    save_every_seconds: Annotated[float, Field(ge=0.0)]
    """a training that is cut loses at most this much; 0: a checkpoint after every step"""
    validation_images: Annotated[int, Field(ge=0)]
    """labelled images, where there are any, that it is scored on ten times meanwhile; they change
    no weight"""
    feature_cache: Literal["off", "memory", "disk"]
    """frozen features: off (computed in every epoch), memory (float32), or disk (float16, in
    .scratch/features, half the size; last digits differ)"""
    feature_cache_gb: Annotated[float, Field(ge=0.0)]
    """at most this much of them is kept; beyond it they are computed anew"""
    flip: bool
    """mirror every other picture at random; with feature_cache off"""
    crop_min_scale: Annotated[float, Field(gt=0.0, le=1.0)]
    """a random part of the picture is trained on, its sides at least this fraction of the whole
    ones; 1: the whole picture; below with feature_cache off"""
    processes: Literal["auto"] | Positive
    """that train together, each on a share of every batch; auto: one for each GPU here. More than
    one changes last digits"""
    init_from: str | None
    """null: fresh weights; champion: those of the registry's champion, where there is one that
    fits; or the folder of a trained model"""
    corrections_weight: Annotated[float, Field(gt=0.0, le=1000.0)]
    """of a patch of a corrected image in the loss; 1: like any other (docs/corrections.md)"""
    labels: Literal["pseudo", "student", "truth"]
    """pseudo: the method; student: SAM's masks as the model of init_from names them, see
    docs/adapt.md; truth: the images' own labels, a supervised ceiling to compare with"""
    min_agreement: Fraction
    """with labels student: so much of a mask's area has to agree on its class, or it is left out"""

    @property
    def varies(self) -> bool:
        """Whether every epoch sees other parts of the pictures."""
        return self.flip or self.crop_min_scale < 1.0

    @field_validator("labels")
    @classmethod
    def _a_student_is_named(cls, value: str, info: ValidationInfo) -> str:
        if value == "student" and info.data.get("init_from") is None:
            raise ValueError(
                "student are labels by a trained model, and train.init_from is null; name its "
                "folder there, or champion"
            )
        return value

    @field_validator("flip", "crop_min_scale")
    @classmethod
    def _kept_features_do_not_vary(cls, value: float, info: ValidationInfo) -> float:
        if value != {"flip": False, "crop_min_scale": 1.0}[str(info.field_name)]:
            kept = info.data.get("feature_cache")
            if kept in ("memory", "disk"):
                raise ValueError(
                    f"train.feature_cache is {kept}, but features of pictures that change in "
                    "every epoch cannot be kept; set it to off"
                )
        return value
