"""`fmbseg predict`: label maps and overlays for images; docs/predict.md says what they mean."""

import argparse
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from fmbseg.commands.class_list import class_list
from fmbseg.commands.outputs import CLASSES, named_outputs, output_path
from fmbseg.errors import UserError
from fmbseg.hub.files import holds_model
from fmbseg.hub.names import is_hub_name
from fmbseg.pictures.answers import CONFIDENCE_SCALE, NONE, fractions_png, overlay_png
from fmbseg.pictures.colours import Palette, palette
from fmbseg.pictures.drawing import save_label_png
from fmbseg.pictures.large import label_counts
from fmbseg.store import UnreadableImageError, read_image, write_bytes
from fmbseg.store.names import printable
from fmbseg.types import IGNORE, Image, LabelMap
from fmbseg.vocabulary import Vocabulary, joined

MAX_SIMILARITIES = 2**30
"""Classes x pixels of one image that `--similarities npz` holds in memory: 4 GB."""


def predict(arguments: argparse.Namespace) -> int:
    """Write `<name>.png` (palette label map) and `<name>.overlay.png` per image, `classes.txt`."""
    vocabulary = class_list(arguments.classes, "--classes")
    background = arguments.background and class_list(arguments.background, "--background")
    if background:
        joined(vocabulary, background)
    least: float | None = arguments.min_similarity
    if least is not None and not -1 <= least <= 1:
        raise UserError(f"--min-similarity: found {least:g}; wanted a cosine, -1 to 1")
    out: Path = arguments.out
    images = named_outputs(arguments.images, out)
    if not is_hub_name(arguments.model) and not holds_model(arguments.model):
        raise UserError(
            f"no trained model in {arguments.model}; `fmbseg run` (or `make run`) trains one, or "
            "name its folder with --model"
        )
    from fmbseg.segmenter import Segmenter  # takes seconds; mistakes above are told at once

    segmenter = Segmenter.load(
        arguments.model, device=arguments.device, precision=arguments.precision,
        allow_paths=arguments.trust_paths,
    )  # fmt: skip
    if arguments.confidence and segmenter.temperature is None:
        raise UserError(
            f"--confidence: {arguments.model} does not say the temperature of its training, being "
            "of an earlier version; train again"
        )
    write_bytes(out / CLASSES, "".join(f"{line}\n" for line in vocabulary.lines()).encode())
    colours = palette(len(vocabulary))
    won: set[int] = set()
    failed = 0
    quiet = len(images) < 2 or not sys.stderr.isatty()
    for name, path in tqdm(sorted(images.items()), desc="predict", disable=quiet):
        try:
            image = read_image(path)
        except UnreadableImageError as error:
            tqdm.write(f"skipped {printable(str(path))}: {error}")
            failed += 1
            continue
        if arguments.similarities == "npz":
            _require_room(image, vocabulary, path)
        answer = segmenter.predict(
            image, vocabulary, arguments.similarities == "npz", background=background or (),
            min_similarity=least, scores=arguments.confidence or arguments.similarities == "png",
        )  # fmt: skip
        labels, names, target = answer.labels, answer.class_names, output_path(out, name)
        _write(target, answer, colours, arguments)
        del answer  # a large image's scores take more memory than the image
        counts = label_counts(labels)
        shown = overlay_png(image, labels, names, colours, list(counts))
        write_bytes(Path(f"{target}.overlay.png"), shown)
        won |= set(counts)
        tqdm.write(f"{printable(str(path))}: {_shares(names, counts)}")
    read = len(images) - failed
    print(f"wrote {read} label maps and overlays to {out}/")
    if read:
        _say_what_never_won(vocabulary, won, read, compared=bool(background) or least is not None)
    return 0 if read else 1


def _require_room(image: Image, vocabulary: Vocabulary, path: Path) -> None:
    if image.shape[0] * image.shape[1] * len(vocabulary) > MAX_SIMILARITIES:
        raise UserError(
            f"--similarities npz: {printable(str(path))} has {image.shape[1]}x{image.shape[0]} px "
            f"and there are {len(vocabulary)} classes, more than {MAX_SIMILARITIES:,} values; use "
            "--similarities png, fewer classes or a smaller image"
        )


def _write(target: Path, answer: LabelMap, colours: Palette, arguments: argparse.Namespace) -> None:
    """The label map, and the scores that were asked for."""
    save_label_png(Path(f"{target}.png"), answer.labels, colours)
    if answer.similarities is not None:
        data = io.BytesIO()
        similarities = answer.similarities.astype(np.float16)
        np.savez_compressed(data, similarities=similarities, classes=np.array(answer.class_names))
        write_bytes(Path(f"{target}.similarities.npz"), data.getvalue())
    if arguments.similarities == "png" and answer.best_similarity is not None:
        scale = "cosine of the best class = value / 65535 * 2 - 1"
        content = fractions_png(answer.best_similarity, scale, least=-1)
        write_bytes(Path(f"{target}.similarity.png"), content)
    if arguments.confidence and answer.confidence is not None:
        content = fractions_png(answer.confidence, CONFIDENCE_SCALE)
        write_bytes(Path(f"{target}.confidence.png"), content)


def _shares(names: Sequence[str], counts: Mapping[int, int]) -> str:
    """The classes of an image by area: "sky 60%, none 40%"."""
    pixels = sum(counts.values())
    shares = {
        NONE if label == IGNORE else names[label]: count / pixels for label, count in counts.items()
    }
    return ", ".join(f"{n} {s:.0%}" for n, s in sorted(shares.items(), key=lambda one: -one[1]))


def _say_what_never_won(
    vocabulary: Vocabulary, won: set[int], images: int, *, compared: bool
) -> None:
    never = [name for index, name in enumerate(vocabulary.names) if index not in won]
    if never:
        print(
            f"never won: {', '.join(never)} ({len(never)} of {len(vocabulary)} classes in {images} "
            'image(s)); not there, or try synonyms: --classes "road=street, sky"'
        )
    if len(vocabulary) == 1 and not compared:
        print(
            f"one class and nothing to compare it with: every pixel is {vocabulary.names[0]}; "
            "--background and --min-similarity let pixels be none (docs/predict.md)"
        )
