"""What an image costs where weights are missing: known times, at this machine's pace."""

from collections.abc import Sequence

import torch

from fmbseg.estimate.measure import Bench, Figures
from fmbseg.estimate.memory import held_bytes
from fmbseg.estimate.sample import DataSet
from fmbseg.methods.table import METHODS
from fmbseg.steps import evaluate

_SECONDS = {
    "base": {"clip": 16.0, "encoder": 21.0, "prompt": 0.13, "vision": 5.4, "step": 0.3},
    "paper": {"clip": 69.0, "encoder": 97.0, "prompt": 0.13, "vision": 17.0, "step": 15.0},
}
"""Of a photograph (of SAM's decoder: a prompt) on a processor core of the pace `_PACE`."""
_PACE = 85e9
"""Operations a second in a product of two matrices."""
_SIZES = {
    "base": {"features": 5.6e6, "model": 120e6, "models": 1.1e9, "work": 3.2e9},
    "paper": {"features": 7.4e6, "model": 210e6, "models": 5.5e9, "work": 3.9e9},
}
"""Bytes of an image's features and of the trained model; of the models in memory, and beside."""
_MASKS_BYTES = 50e3
"""Masks of a photograph on disk, about."""
_CHOOSING_S, _VALIDATION_S = 0.007, 0.4
"""Of the step `subsample` and of a validation, an image."""


def coarse(bench: Bench, scored: Sequence[DataSet]) -> Figures:
    """The published models' times on photographs; models named otherwise count as the profile's.

    A protocol's windows and templates, and what is done with the models' answers, are left out.
    """
    p = bench.params
    profile = p.models.profile if p.models.profile in _SECONDS else "base"
    known, sizes, slower = _SECONDS[profile], _SIZES[profile], _slower(bench)
    side = p.pseudo_masks.points_per_side
    decoder_s = (32 if side == "auto" else int(side)) ** 2 * known["prompt"]
    of = {"clip": known["clip"], "sam": known["encoder"] + decoder_s, "vision": known["vision"]}
    seconds = {
        "pseudo_masks": of["clip"] + of["sam"], "features": of["vision"], "step": known["step"],
        "validation": _VALIDATION_S,
    }  # fmt: skip
    for one in scored:
        foundation = evaluate.unit_name(evaluate.FOUNDATION, one.name)
        seconds[foundation] = of["clip"] + known["encoder"]
        for name in p.evaluate.methods:
            roles = ("vision",) if METHODS[name].trained else METHODS[name].models
            seconds[evaluate.unit_name(name, one.name)] = sum(of[role] for role in roles)
    here = {name: slower * took for name, took in seconds.items()} | {"subsample": _CHOOSING_S}
    room = sizes | {"masks": _MASKS_BYTES, "kept": _MASKS_BYTES}
    return Figures(here, room, held_bytes() + sizes["models"], sizes["work"], 0.0, 0)


def _slower(bench: Bench) -> float:
    """Seconds of this machine for one of a processor core of the pace `_PACE`."""
    side = 2048
    one = torch.randn(side, side, device=bench.device)
    took = min(bench.seconds(lambda: one @ one) for _ in range(3))
    return took * _PACE / (2 * side**3)
