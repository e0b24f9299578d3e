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
        learning_rate: its peak; 2 % of the steps warm up, then a cosine falls to 0.
        momentum: of SGD.
        weight_decay: of SGD, on matrices only.
        heads: of the block's self-attention.
        mlp_ratio: width of the block's MLP over the encoder's.
        chunk_patches: side of the loss's tiles.
        seed: of the weights, the order of the images and the choice of patches.
        save_every_epochs: epochs between checkpoints.
        patches_per_image: labelled patches drawn per image and step for the loss; None for all, as
            in the paper. The others still serve as keys and values of the self-attention.
        max_grad_norm: a step's gradient longer than this, over all weights, is shortened to it;
            None for never.
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
    save_every_epochs: int
    patches_per_image: int | None = None
    max_grad_norm: float | None = None

    def check(self) -> None:
        """Refuse values that no training could use.

        Raises:
            ValueError: with the dotted key, what was found and what is wanted.
        """
        if self.loss not in LOSSES:
            raise ValueError(f"train.loss: found {self.loss!r}; wanted one of {sorted(LOSSES)}")
        for name in ("epochs", "batch_images", "chunk_patches", "save_every_epochs"):
            if getattr(self, name) < 1:
                raise ValueError(f"train.{name}: found {getattr(self, name)}; wanted at least 1")
        if self.patches_per_image is not None and self.patches_per_image < 1:
            raise ValueError("train.patches_per_image: wanted at least 1, or null for all")
        if self.max_grad_norm is not None and self.max_grad_norm <= 0:
            raise ValueError(
                f"train.max_grad_norm: found {self.max_grad_norm}; wanted above 0, or null"
            )
