"""What a protocol does with the class that stands for everything else."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float32

_ELEMENTS_AT_ONCE = 2**24
"""Classes x pixels whose softmax is held at once: 64 MB."""

_OPTIONS: dict[str | None, set[str]] = {
    None: set(),
    "cosine": set(),
    "sigmoid": {"temperature", "midpoint"},
    "softmax": {"temperature"},
}


@dataclass(frozen=True)
class Background:
    """Plays a part only in data sets that have a background class.

    Attributes:
        mode: `ignore`: the class is neither asked for nor scored, its pixels count as unlabelled.
            `threshold`: it is answered where the best other class scores below `threshold`.
            `stuff_names`: it is asked for by `names`, the best of which counts; where there is a
            `threshold` too, it is also answered below it.
        names: of `stuff_names`. One that is also a class's name is not asked for: the class has it.
        score: what the threshold is compared with: the best `cosine`; a `sigmoid` of it,
            1 / (1 + exp((midpoint - cosine) / temperature)); or the best share of a `softmax` of
            cosine / temperature over all names asked for.
        temperature: of sigmoid or softmax, above 0.
        midpoint: of the sigmoid, a cosine.
        threshold: in units of the score.

    Raises:
        ValueError: an attribute that mode or score wants is missing, or one too many is there.
    """

    mode: Literal["ignore", "threshold", "stuff_names"]
    names: tuple[str, ...] = ()
    score: Literal["cosine", "sigmoid", "softmax"] | None = None
    temperature: float | None = None
    midpoint: float | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        given = {key for key in ("temperature", "midpoint") if getattr(self, key) is not None}
        if (
            bool(self.names) != (self.mode == "stuff_names")
            or (self.threshold is None) != (self.score is None)
            or (self.mode != "stuff_names" and (self.score is None) != (self.mode == "ignore"))
            or given != _OPTIONS.get(self.score)
            or (self.temperature is not None and self.temperature <= 0)
        ):
            raise ValueError(
                f"background: found {asdict(self)}; wanted names with stuff_names alone, score "
                "and threshold with threshold, perhaps with stuff_names, temperature (above 0) "
                "with softmax, temperature and midpoint with sigmoid, and nothing else"
            )

    def facts(self) -> dict[str, Any]:
        """The attributes that play a part, ready for JSON."""
        return {key: value for key, value in asdict(self).items() if value not in (None, ())}

    def below(
        self, similarities: Float32[np.ndarray, "category height width"]
    ) -> Bool[np.ndarray, "height width"]:
        """Pixels whose best score is below the threshold; none without a threshold."""
        best = similarities.max(axis=0)
        if self.threshold is None or self.score is None:
            return np.zeros(best.shape, bool)
        if self.score == "cosine":
            return np.asarray(best < self.threshold)
        assert self.temperature is not None
        if self.score == "sigmoid":
            assert self.midpoint is not None
            share = 1 / (1 + np.exp((self.midpoint - best) / self.temperature))
            return np.asarray(share < self.threshold)
        share = np.empty_like(best)
        rows = max(1, _ELEMENTS_AT_ONCE // (len(similarities) * best.shape[1]))
        for top in range(0, len(best), rows):
            part = slice(top, top + rows)
            gaps = (similarities[:, part] - best[part]) / self.temperature
            share[part] = 1 / np.exp(gaps).sum(axis=0)
        return np.asarray(share < self.threshold)
