"""What measuring the sample gave."""

from collections.abc import Sequence
from dataclasses import dataclass

from fmbseg.estimate.evaluation import Scored
from fmbseg.estimate.meter import Rate


@dataclass(frozen=True)
class Figures:
    """Rates and bytes are of one image unless said otherwise.

    Attributes:
        base_bytes: memory of the process with the models in it, idle.
        models_s: seconds to build the models, once a process.
        texts_s: seconds to read all class names, once a step.
        stage1: seconds of stage 1.
        stage1_bytes: its output on disk.
        subsample: seconds to choose among the masks.
        kept_bytes: the kept masks on disk.
        masks_memory_bytes: all masks as objects in memory.
        kept_memory_bytes: the kept ones.
        encode: seconds of the vision encoder.
        feature_bytes: its features in memory.
        labels: seconds to label the patches.
        label_bytes: the patches' labels in memory.
        step: seconds of one step of training.
        validation: seconds to score the head on an image while it is trained.
        model_bytes: the trained model and its checkpoint on disk, all in all.
        scored: the units of the step `evaluate`.
        guessed_labels: the sample gave no labelled patch, so labels were drawn for the training.
    """

    base_bytes: int
    models_s: float
    texts_s: float
    stage1: Rate
    stage1_bytes: float
    subsample: Rate
    kept_bytes: float
    masks_memory_bytes: float
    kept_memory_bytes: float
    encode: Rate
    feature_bytes: float
    labels: Rate
    label_bytes: float
    step: Rate
    validation: Rate
    model_bytes: int
    scored: Sequence[Scored]
    guessed_labels: bool
