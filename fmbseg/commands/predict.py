"""`fmbseg predict`: label maps and overlays for images."""

import argparse
from pathlib import Path

import numpy as np
from tqdm import tqdm

from fmbseg.commands import UserError
from fmbseg.evaluate.colours import palette
from fmbseg.evaluate.pictures import overlay, save_label_png, save_png, with_legend
from fmbseg.store import UnreadableImageError, list_images, read_image
from fmbseg.vocabulary import Vocabulary, VocabularyError, read_classes


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
