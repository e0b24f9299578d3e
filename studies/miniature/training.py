"""The loop that trains each small foundation model: cosine rate, progress, resume, checkpoints."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fmbseg.progress import progress


def cosine(index: int, steps: int) -> float:
    """Share of the peak learning rate: from 1 to 0 along half a cosine."""
    return float(0.5 * (1 + np.cos(np.pi * index / steps)))


def late_cosine(index: int, steps: int) -> float:
    """A slow cosine (15/7 as long) for the first 5/7 of the steps, then the plain one.

    So most steps are taken near the peak rate, and the last 2/7 settle.
    """
    return cosine(index, steps * 15 // 7 if index < steps * 5 // 7 else steps)


def run_training(
    model: torch.nn.Module,
    step: Callable[[int, np.random.Generator], Tensor],
    *,
    steps: int,
    seed: int,
    folder: Path,
    learning_rate: float,
    weight_decay: float = 0.05,
    warmup_steps: int = 200,
    save_every: int = 200,
    evaluate: Callable[[int], dict[str, float]] | None = None,
    evaluate_every: int = 1000,
    schedule: Callable[[int, int], float] | None = None,
) -> None:
    """Train `model` in place with AdamW, cosine decay and gradient clipping at norm 1.

    A cut run goes on at its last checkpoint in `folder/resume.pt`. Every step draws from its own
    generator, made of (seed, step index), and torch's global seed is set the same way, so a
    resumed run equals an undisturbed one.

    Args:
        model: its parameters that require a gradient are trained.
        step: (step index, generator) to the loss of one batch.
        steps: total number of steps.
        seed: of data order and augmentation.
        folder: for `resume.pt` and `log.jsonl` (step, loss, seconds, evaluation).
        learning_rate: its peak, after the linear warm-up.
        weight_decay: on matrices only.
        warmup_steps: length of the warm-up.
        save_every: steps between two checkpoints.
        evaluate: called with the number of steps done; its figures go to the log.
        evaluate_every: steps between two evaluations; the last step is always followed by one.
        schedule: (step index, steps) to the share of the peak rate; None is `cosine`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    trained = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98))
    resume, first, seconds = folder / "resume.pt", 0, 0.0
    if resume.exists():
        state = torch.load(resume, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        first, seconds = int(state["step"]), float(state["seconds"])
    began, losses = time.perf_counter() - seconds, []
    with progress("training", total=steps, unit="step", initial=first) as told:
        for index in range(first, steps):
            rate = min((index + 1) / warmup_steps, 1.0)
            rate *= (schedule or cosine)(index, steps)
            for group in optimizer.param_groups:
                group["lr"] = float(learning_rate * rate)
            torch.manual_seed(seed * 1_000_003 + index)
            loss = step(index, np.random.default_rng([seed, index]))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            losses.append(loss.item())
            done, last = index + 1, index + 1 == steps
            told.update(loss=float(np.mean(losses[-50:])))
            if evaluate is not None and (done % evaluate_every == 0 or last):
                model.eval()
                figures = {k: round(v, 4) for k, v in evaluate(done).items()}
                model.train()
                line = {"step": done, "loss": round(float(np.mean(losses)), 4), **figures}
                line["seconds"] = round(time.perf_counter() - began, 1)
                losses.clear()
                with (folder / "log.jsonl").open("a") as log:
                    log.write(json.dumps(line) + "\n")
            if done % save_every == 0 or last:
                state = {
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "step": done,
                    "seconds": time.perf_counter() - began,
                }
                torch.save(state, resume.with_suffix(".tmp"))
                os.replace(resume.with_suffix(".tmp"), resume)
