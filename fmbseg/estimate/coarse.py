"""What an image costs where weights are missing: known times, at this machine's pace."""

from collections.abc import Iterable

import torch

from fmbseg.estimate.measure import Figures, seconds
from fmbseg.estimate.memory import held_bytes
from fmbseg.methods.table import METHODS
from fmbseg.models.device import resolve_device
from fmbseg.params import Params
from fmbseg.steps import evaluate
from fmbseg.steps.plan import STEPS

_SECONDS = {
    "base": {"clip": 14.0, "encoder": 19.0, "prompt": 0.065, "vision": 5.3, "step": 0.2},
    "paper": {"clip": 69.0, "encoder": 97.0, "prompt": 0.065, "vision": 17.0, "step": 15.0},
}
"""Of a photograph (of SAM's decoder: a prompt) on a processor core of the pace `_PACE`."""
_PACE = 88e9
"""Operations a second in a product of two matrices."""
_SIZES = {
    "base": {"features": 5.6e6, "model": 120e6, "models": 1.1e9, "work": 3.2e9},
    "paper": {"features": 7.4e6, "model": 210e6, "models": 5.5e9, "work": 3.9e9},
}
"""Bytes of an image's features and of the trained model; of the models in memory, and beside."""
_MASKS_BYTES = 50e3
"""Masks of a photograph on disk, about."""
_OTHER_S = {"validation": 0.4, "download": 0.001, "subsample": 0.007}
"""Of an image, whatever the profile."""


def coarse(p: Params, left: Iterable[str]) -> Figures:
    """The published models' times on photographs; models named otherwise count as the profile's.

    A protocol's windows and templates, and what is done with the models' answers, are left out.

    Args:
        p: of the run.
        left: steps, and units of the step `evaluate`, that are to be computed.
    """
    profile = p.models.profile if p.models.profile in _SECONDS else "base"
    known, sizes, slower = _SECONDS[profile], _SIZES[profile], _slower(p)
    side = p.pseudo_masks.points_per_side
    decoder_s = (32 if side == "auto" else int(side)) ** 2 * known["prompt"]
    of = {**known, "sam": known["encoder"] + decoder_s}
    roles: dict[str, tuple[str, ...]] = {
        name: ("vision",) if one.trained else one.models for name, one in METHODS.items()
    }
    roles |= {evaluate.FOUNDATION: ("clip", "encoder"), "pseudo_masks": ("clip", "sam"),
              "features": ("vision",), "step": ("step",)}  # fmt: skip
    roles |= {unit: roles[evaluate.method_of(unit)] for unit in left if unit not in STEPS}
    known_s = {name: slower * sum(of[one] for one in parts) for name, parts in roles.items()}
    room = sizes | {"masks": _MASKS_BYTES, "kept": _MASKS_BYTES}
    return Figures(known_s | _OTHER_S, room, held_bytes() + sizes["models"], sizes["work"], 0)


def _slower(p: Params) -> float:
    """Seconds of this machine for one of a processor core of the pace `_PACE`."""
    side = 2048
    one = torch.randn(side, side, device=resolve_device(p.device))
    took_s = min(seconds(p, lambda: one @ one) for _ in range(3))
    return took_s * _PACE / (2 * side**3)
