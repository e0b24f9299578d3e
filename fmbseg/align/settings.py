"""How the alignment head is trained."""

from dataclasses import dataclass

from fmbseg.align.loss import LOSSES


@dataclass(frozen=True)
class AlignmentSettings:
    """Section `train` of params.yaml, and the seed.

    Attributes:
        loss: a name in `fmbseg.align.loss.LOSSES`.
        temperature: of the loss.
        epochs: passes over the images that hold a labelled patch.
        batch_images: images per step.
        learning_rate: its peak, after the warm-up; then it falls on a cosine.
        momentum: of SGD.
        weight_decay: of SGD, on matrices only.
        heads: of the block's self-attention.
        mlp_ratio: width of the block's MLP over the encoder's.
        chunk_patches: side of the loss's tiles.
        seed: of the weights, the order of the images and the choice of patches.
        save_every_seconds: a checkpoint is written after the first step that ends so long after the
            one before, or after the start; 0: after every step.
        patches_per_image: labelled patches drawn per image and step for the loss; None for all, as
            in the paper. The others still serve as keys and values of the self-attention.
        max_grad_norm: a step's gradient longer than this, over all weights, is shortened to it;
            None for never.
        hold_rate_from: fraction of the steps after which the rate stays where the cosine is; None:
            it falls to 0.
        average_over: time constant of the moving average of the weights, which is what is saved,
            as a fraction of the steps: the weights of a step so long before the end count 1/e as
            much as the last ones. None: the last step's weights.
        warm_up_fraction: of the steps, over which the rate rises to its peak.
    """

    loss: str
    temperature: float
    epochs: int
    batch_images: int
    learning_rate: float
    momentum: float
    weight_decay: float
    heads: int
    mlp_ratio: float
    chunk_patches: int
    seed: int
    save_every_seconds: float
    patches_per_image: int | None = None
    max_grad_norm: float | None = None
    hold_rate_from: float | None = None
    average_over: float | None = None
    warm_up_fraction: float = 0.0

    def check(self) -> None:
        """Refuse values that no training could use.

        Raises:
            ValueError: with the dotted key, what was found and what is wanted.
        """
        if self.loss not in LOSSES:
            raise ValueError(f"train.loss: found {self.loss!r}; wanted one of {sorted(LOSSES)}")
        for name in ("epochs", "batch_images", "chunk_patches"):
            if getattr(self, name) < 1:
                raise ValueError(f"train.{name}: found {getattr(self, name)}; wanted at least 1")
        if self.patches_per_image is not None and self.patches_per_image < 1:
            raise ValueError("train.patches_per_image: wanted at least 1, or null for all")
        if self.max_grad_norm is not None and self.max_grad_norm <= 0:
            raise ValueError(
                f"train.max_grad_norm: found {self.max_grad_norm}; wanted above 0, or null"
            )
        if self.save_every_seconds < 0:
            raise ValueError(
                f"train.save_every_seconds: found {self.save_every_seconds}; wanted at least 0"
            )
        if not 0 <= self.warm_up_fraction < 1:
            raise ValueError(
                f"train.warm_up_fraction: found {self.warm_up_fraction}; wanted 0 to below 1"
            )
        if self.hold_rate_from is not None and not 0 <= self.hold_rate_from <= 1:
            raise ValueError(
                f"train.hold_rate_from: found {self.hold_rate_from}; wanted 0 to 1, or null"
            )
        if self.average_over is not None and self.average_over <= 0:
            raise ValueError(
                f"train.average_over: found {self.average_over}; wanted above 0, or null"
            )
