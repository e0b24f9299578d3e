"""What each sub-command of the console script does."""

import argparse
import os
import platform
import shutil
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from fmbseg.evaluate.colours import palette
from fmbseg.evaluate.pictures import overlay, save_label_png, save_png, with_legend
from fmbseg.params import load_params
from fmbseg.store import UnreadableImageError, list_images, read_image
from fmbseg.vocabulary import Vocabulary, VocabularyError, read_classes


class UserError(ValueError):
    """A mistake on the command line; the text says what to do."""


def predict(arguments: argparse.Namespace) -> int:
    """Write `<stem>.png` (palette label map), `<stem>.overlay.png` and `classes.txt` per image."""
    from fmbseg.segmenter import Segmenter

    vocabulary = _classes(arguments.classes)
    paths = _image_paths(arguments.images)
    if not (arguments.model / "alignment.safetensors").is_file():
        raise UserError(
            f"no trained model in {arguments.model}; `make run` trains one, or name its folder "
            "with --model"
        )
    segmenter = Segmenter.load(arguments.model, device=arguments.device)
    colours = palette(len(vocabulary.names))
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    (out / "classes.txt").write_text("\n".join(vocabulary.names) + "\n")
    failed = 0
    for name, path in tqdm(sorted(paths.items()), desc="predict", disable=len(paths) < 2):
        try:
            image = read_image(path)
        except UnreadableImageError as error:
            print(f"skipped {path}: {error}")
            failed += 1
            continue
        labels = segmenter.predict(image, list(vocabulary.names)).labels
        target = out / name
        target.parent.mkdir(parents=True, exist_ok=True)
        save_label_png(target.with_name(f"{target.name}.png"), labels, colours)
        present = [int(index) for index in np.unique(labels)]
        shown = overlay(image, labels, colours)
        picture = with_legend(shown, vocabulary.names, colours, present)
        save_png(target.with_name(f"{target.name}.overlay.png"), picture)
        shares = {vocabulary.names[i]: float((labels == i).mean()) for i in present}
        words = ", ".join(f"{n} {s:.0%}" for n, s in sorted(shares.items(), key=lambda x: -x[1]))
        tqdm.write(f"{path}: {words}")
    print(f"wrote {len(paths) - failed} label maps and overlays to {out}/")
    return 1 if failed == len(paths) else 0


def doctor(arguments: argparse.Namespace) -> int:
    """Print versions, device, weights, disk, offline state; 1 when a needed weight is missing."""
    import torch

    from fmbseg.models.status import weights_status

    print(f"python      {platform.python_version()} on {platform.platform()}")
    names = ("fmbseg", "torch", "torchvision", "open-clip-torch", "segment-anything", "timm",
             "prefect", "dvc", "mlflow")  # fmt: skip
    for name in names:
        try:
            print(f"{name:<18}{version(name)}")
        except PackageNotFoundError:
            print(f"{name:<18}not installed")
    device = "cpu"
    if torch.cuda.is_available():
        device = f"cuda ({torch.cuda.get_device_name()})"
    elif torch.backends.mps.is_available():
        device = "mps"
    print(f"{'device: auto':<18}{device}, {os.cpu_count()} processors")
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    print(f"{'disk':<18}{free:.1f} GB free here")
    offline = [n for n in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE") if os.environ.get(n) == "1"]
    print(f"{'offline':<18}{', '.join(offline) or 'no flag set: missing weights may be fetched'}")
    models = load_params(arguments.params).models
    overrides = models.model_dump(include={"clip", "sam", "vision"}, exclude_none=True)
    missing = 0
    print(f"weights of the profile {models.profile!r}:")
    for status in weights_status(models.profile, overrides):
        print(f"  {status.model:<8}{status.name:<44}{'present' if status.present else 'MISSING'}")
        print(f"          {status.where}")
        missing += not status.present
    return 1 if missing else 0


def miniature(arguments: argparse.Namespace) -> int:
    """Train one of the small models from its shipped recipe, or draw images of the world."""
    if arguments.action == "draw":
        return _draw(arguments)
    import torch

    from fmbseg.miniature.train_clip import train_clip
    from fmbseg.miniature.train_sam import train_sam
    from fmbseg.miniature.train_vision import train_vision

    recipes: dict[str, Callable[..., dict[str, float]]] = {
        "clip": train_clip, "sam": train_sam, "vision": train_vision
    }  # fmt: skip
    folder = arguments.folder or Path("work/train") / arguments.model
    weights = arguments.weights or Path("work/weights") / arguments.model
    torch.set_num_threads(1)  # the recipes were run so; more threads give other last bits
    began = time.perf_counter()
    steps = {} if arguments.steps is None else {"steps": arguments.steps}
    scores = recipes[arguments.model](folder, weights, seed=arguments.seed, **steps)
    for name, value in scores.items():
        print(f"{name:<32}{value:.4f}")
    print(f"weights in {weights}, {time.perf_counter() - began:.0f} s; log in {folder}/log.jsonl")
    return 0


def _draw(arguments: argparse.Namespace) -> int:
    from fmbseg.miniature.world import CLASS_NAMES, generate

    for folder in ("images", "labels"):
        (arguments.out / folder).mkdir(parents=True, exist_ok=True)
    for item in generate(arguments.seed, arguments.count, "train", look=arguments.look):
        Image.fromarray(item.image).save(arguments.out / "images" / f"{item.name}.png")
        Image.fromarray(item.labels).save(arguments.out / "labels" / f"{item.name}.png")
    (arguments.out / "classes.txt").write_text("\n".join(CLASS_NAMES) + "\n")
    print(f"wrote {arguments.count} images with labels to {arguments.out}/")
    return 0


def _classes(text: str) -> Vocabulary:
    """A class file when there is one of that name, else a list with commas."""
    try:
        if Path(text).is_file():
            return read_classes(Path(text))
        names = tuple(name.strip() for name in text.split(",") if name.strip())
        return Vocabulary(names, tuple(() for _ in names))
    except VocabularyError as error:
        raise UserError(str(error)) from None


def _image_paths(given: list[Path]) -> dict[str, Path]:
    """Output name (no suffix) to image file; folders are searched to any depth."""
    found: dict[str, Path] = {}
    for path in given:
        if path.is_dir():
            names = {name: path / name for name in list_images(path)}
        elif path.is_file():
            names = {path.name: path}
        else:
            raise UserError(f"{path}: no such file or folder")
        for name, file in names.items():
            stem = str(Path(name).with_suffix(""))
            found[stem if stem not in found else name] = file
    if not found:
        raise UserError("found no image (png, jpg, bmp, tif, webp) in what was given")
    return found
