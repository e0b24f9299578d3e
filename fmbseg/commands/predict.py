"""`fmbseg predict`: label maps and overlays for images; docs/predict.md says what they mean."""

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from fmbseg.commands.answer import Answer
from fmbseg.commands.class_list import class_list
from fmbseg.commands.model_source import model_source
from fmbseg.commands.outputs import CLASSES, named_outputs, output_path
from fmbseg.errors import NEGATIVE, PARTIAL, UserError
from fmbseg.hub.fetch import fetched
from fmbseg.hub.files import holds_model
from fmbseg.hub.names import HubName, is_hub_name
from fmbseg.pictures.answers import NONE
from fmbseg.progress import Progress, clock, progress
from fmbseg.store import UnreadableImageError, read_image, write_bytes
from fmbseg.store.names import printable
from fmbseg.types import IGNORE
from fmbseg.vocabulary import Vocabulary, joined

if TYPE_CHECKING:  # takes seconds; mistakes on the command line are told at once
    from fmbseg.segmenter import Segmenter
    from fmbseg.steps.predict import Wanted
    from fmbseg.steps.predictions import Predictions

_TELLS_AFTER, _LONG_S = 3, 10.0
"""After so many images it is said how long the rest takes, if that is longer."""


def predict(arguments: argparse.Namespace) -> Answer:
    """Write `<name>.png` (palette label map) and `<name>.overlay.png` per image, `classes.txt`."""
    with model_source(arguments.model) as source:
        return _predict(arguments, source.folder)


def _predict(arguments: argparse.Namespace, model: Path) -> Answer:
    began = time.perf_counter()
    vocabulary = class_list(arguments.classes, "--classes")
    background = arguments.background and class_list(arguments.background, "--background")
    if background:
        joined(vocabulary, background)
    least: float | None = arguments.min_similarity
    if least is not None and not -1 <= least <= 1:
        raise UserError(f"--min-similarity: found {least:g}; wanted a cosine, -1 to 1")
    out: Path = arguments.out
    images = dict(sorted(named_outputs(arguments.images, out).items()))
    if not is_hub_name(model) and not holds_model(model):
        raise UserError(
            f"no trained model in {model}; `fmbseg run` (or `make run`) trains one, or "
            "name its folder with --model"
        )
    from fmbseg.models.device import resolve_device
    from fmbseg.models.precision import resolve_precision
    from fmbseg.segmenter import Segmenter
    from fmbseg.steps.predict import Wanted, settings
    from fmbseg.steps.predictions import Predictions

    folder = fetched(HubName.parse(str(model))) if is_hub_name(model) else model
    segmenter = Segmenter.load(
        folder, device=arguments.device, precision=arguments.precision,
        allow_paths=arguments.trust_paths,
    )  # fmt: skip
    if arguments.confidence and segmenter.temperature is None:
        raise UserError(
            f"--confidence: {model} does not say the temperature of its training, being "
            "of an earlier version; train again"
        )
    wanted = Wanted(
        vocabulary, background or None, least, arguments.similarities, arguments.confidence,
        arguments.refine,
    )  # fmt: skip
    device = resolve_device(arguments.device)
    encoders = f"{device.type}, {resolve_precision(arguments.precision, device)}"
    made_with = settings(folder, wanted, encoders, allow_paths=arguments.trust_paths)
    record = Predictions(out, made_with, again=arguments.again)
    shares = {name: record.shares(name, path) for name, path in images.items()}
    made = {name: found for name, found in shares.items() if found is not None}
    _say_plan(arguments, segmenter, wanted, len(images), len(made), record.others, encoders)
    write_bytes(out / CLASSES, "".join(f"{line}\n" for line in vocabulary.lines()).encode())
    try:
        fresh, bad = _make(segmenter, wanted, images, made, record, out)
    finally:
        record.save()
    print(f"wrote {len(fresh)} label maps and overlays to {out}/", end="")
    print(f"; {len(made)} were there" if made else "")
    found = made | fresh
    never = [name for name in vocabulary.names if not any(name in one for one in found.values())]
    if found:
        _say_what_never_won(vocabulary, never, len(found), bool(background) or least is not None)
    facts = {
        "out": out, "model": arguments.model, "classes": list(vocabulary.names),
        "images": [
            {"image": images[name], "label_map": out / f"{name}.png", "made": name in fresh,
             "shares": {one: share for one, share in found[name].items() if one},
             "none": found[name].get("", 0.0)}
            for name in images if name in found
        ],
        "unreadable": [{"image": path, "reason": reason} for path, reason in bad.items()],
        "never_won": never, "seconds": round(time.perf_counter() - began, 1),
    }  # fmt: skip
    return Answer(facts, NEGATIVE if not found else PARTIAL if bad else 0)


def _make(
    segmenter: "Segmenter", wanted: "Wanted", images: Mapping[str, Path],
    made: Mapping[str, Any], record: "Predictions", out: Path,
) -> tuple[dict[str, dict[str, float]], dict[Path, str]]:  # fmt: skip
    """Make what is missing: classes by area of each image, and the images that cannot be read."""
    from fmbseg.steps.predict import make
    from fmbseg.steps.predictions import remove_leftovers

    todo = {name: path for name, path in images.items() if name not in made}
    for folder in {out, *((out / name).parent for name in todo)}:
        remove_leftovers(folder)
    fresh, bad = dict[str, dict[str, float]](), dict[Path, str]()
    names = wanted.classes.names
    with progress("predict", total=len(todo)) as bar:
        for name, path in todo.items():
            try:
                image = read_image(path)
            except UnreadableImageError as error:
                bad[path] = str(error)
                tqdm.write(f"skipped {printable(str(path))}: {error}", file=sys.stderr)
                bar.update()
                continue
            counts = make(segmenter, image, wanted, output_path(out, name))
            pixels = sum(counts.values())
            fresh[name] = {
                "" if label == IGNORE else names[label]: round(count / pixels, 6)
                for label, count in counts.items()
            }
            record.add(name, path, wanted.endings, fresh[name])
            tqdm.write(f"{printable(str(path))}: {_words(fresh[name])}")
            bar.update()
            _say_how_long(bar, len(fresh), len(todo) - len(fresh) - len(bad))
    return fresh, bad


def _say_plan(
    arguments: argparse.Namespace, segmenter: "Segmenter", wanted: "Wanted", images: int, made: int,
    others: int, encoders: str,
) -> None:  # fmt: skip
    """What will be done, before it is."""
    there = f"; {made} are made already (--again makes them anew)" if made else ""
    if others:
        there = f"; of an earlier call with another model, words or settings there are {others}"
    trained = len(segmenter.trained_classes)
    about = f"trained on {trained} classes, " if trained else ""
    words = ["=".join(names) for names in wanted.classes.groups]
    if wanted.background:
        words.append(f"background {', '.join(wanted.background.names)}")
    files = ", ".join(f"<name>{end}" for end in wanted.endings)
    print(f"{images} image{'' if images == 1 else 's'}{there}")
    print(printable(f"model {arguments.model}: {about}{encoders}"))
    print(printable(f"{len(wanted.classes)} classes: {', '.join(words)}"))
    print(printable(f"into {arguments.out}/: {files}"), flush=True)


def _say_how_long(bar: Progress, made: int, left: int) -> None:
    seconds = bar.report().left_s
    if made == _TELLS_AFTER and left and seconds is not None and seconds > _LONG_S:
        each = seconds / left
        tqdm.write(f"about {clock(seconds)} for the other {left}, {each:.2g} s an image")


def _words(shares: Mapping[str, float]) -> str:
    """The classes of an image by area: "sky 60%, none 40%"."""
    ordered = sorted(shares.items(), key=lambda one: -one[1])
    return ", ".join(f"{name or NONE} {share:.0%}" for name, share in ordered)


def _say_what_never_won(
    vocabulary: Vocabulary, never: Sequence[str], images: int, compared: bool
) -> None:
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
