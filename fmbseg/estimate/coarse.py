"""What an image costs where weights are missing: known times, at this machine's pace."""

from collections.abc import Sequence

import torch

from fmbseg.estimate.measure import Figures, seconds
from fmbseg.estimate.memory import held_bytes
from fmbseg.estimate.sample import DataSet
from fmbseg.methods.table import METHODS
from fmbseg.models.device import resolve_device
from fmbseg.params import Params
from fmbseg.steps import evaluate

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
_VALIDATION_S, _QUICK_S = 0.4, {"download": 0.001, "subsample": 0.007}
"""Of a validation on an image; of the steps that no model takes part in, an image."""


def coarse(p: Params, scored: Sequence[DataSet]) -> Figures:
    """The published models' times on photographs; models named otherwise count as the profile's.

    A protocol's windows and templates, and what is done with the models' answers, are left out.
    """
    profile = p.models.profile if p.models.profile in _SECONDS else "base"
    known, sizes, slower = _SECONDS[profile], _SIZES[profile], _slower(p)
    side = p.pseudo_masks.points_per_side
    decoder_s = (32 if side == "auto" else int(side)) ** 2 * known["prompt"]
    of = {"clip": known["clip"], "sam": known["encoder"] + decoder_s, "vision": known["vision"]}
    known_s = {
        "pseudo_masks": of["clip"] + of["sam"], "features": of["vision"], "step": known["step"],
        "validation": _VALIDATION_S,
    }  # fmt: skip
    for one in scored:
        foundation = evaluate.unit_name(evaluate.FOUNDATION, one.name)
        known_s[foundation] = of["clip"] + known["encoder"]
        for name in p.evaluate.methods:
            roles = ("vision",) if METHODS[name].trained else METHODS[name].models
            known_s[evaluate.unit_name(name, one.name)] = sum(of[role] for role in roles)
    here = {name: slower * took for name, took in known_s.items()} | _QUICK_S
    room = sizes | {"masks": _MASKS_BYTES, "kept": _MASKS_BYTES}
    return Figures(here, room, held_bytes() + sizes["models"], sizes["work"], 0)


def _slower(p: Params) -> float:
    """Seconds of this machine for one of a processor core of the pace `_PACE`."""
    side = 2048
    one = torch.randn(side, side, device=resolve_device(p.device))
    took = min(seconds(p, lambda: one @ one) for _ in range(3))
    return took * _PACE / (2 * side**3)
