"""Run an exported FMbSeg model: numpy, onnxruntime and Pillow alone; copy this one file with it.

python runtime.py model.onnx photo.jpg                          # photo.labels.png
python runtime.py open.onnx photo.jpg --words words.npz         # other words, same model
"""

import argparse
import contextlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

FORMAT = 1  # of the metadata that this file reads
MAX_ELEMENTS = 2**24
"""Classes x pixels that the graph itself interpolates at once (64 MB); more goes row by row."""
OVERLAP = 4
"""Neighbouring windows share a quarter of their length at least: one over this."""

Window = tuple[int, int, int, int]  # top, left, rows and columns, in patches


class Answer(NamedTuple):
    """One class a pixel.

    Attributes:
        labels: [height, width], index into `Runner.classes`; uint8, uint16 past 255 classes.
        confidence: [height, width], float32, 0 to 1: the winner's share of the softmax of cosine /
            temperature over all classes.
    """

    labels: np.ndarray
    confidence: np.ndarray


class Runner:
    """An exported model.

    Attributes:
        metadata: what the file says of itself: template, sizes, licences, lineage, ...
        classes: their names; the place is the label.
    """

    def __init__(
        self, model: str | Path, words: str | Path | None = None, *,
        threads: int = 0, providers: Sequence[str] = ("CPUExecutionProvider",),
    ) -> None:  # fmt: skip
        """Load it.

        Args:
            model: the ONNX file.
            words: text vectors (.npz), for a model that was exported with `--open`.
            threads: of the processor; 0: all of them.
            providers: of onnxruntime, such as "CUDAExecutionProvider".

        Raises:
            ValueError: no model of FMbSeg; words are missing, or not for this model.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(model, options, providers=list(providers))
        told = self._session.get_modelmeta().custom_metadata_map
        self.metadata: dict[str, Any] = json.loads(told.get("fmbseg", "{}"))
        if self.metadata.get("format") != FORMAT:
            raise ValueError(
                f"{model}: found format {self.metadata.get('format')}; wanted {FORMAT}, a file of "
                "`fmbseg export-model`; take the runtime.py that was written beside it"
            )
        self.classes: tuple[str, ...] = tuple(self.metadata["classes"])
        self._texts: dict[str, np.ndarray] = {}
        if self.metadata["open"]:
            if words is None:
                raise ValueError(f"{model}: holds no classes; name a file of text vectors (.npz)")
            self.set_words(words)
        elif words is not None:
            raise ValueError(f"{model}: its classes are built in; export with --open to choose")

    def set_words(self, words: str | Path) -> None:
        """Answer for other classes from now on.

        Raises:
            ValueError: the vectors are of another text encoder.
        """
        with np.load(words, allow_pickle=False) as stored:
            vectors, names = stored["vectors"].astype(np.float32), stored["names"]
            encoder = str(stored["text_encoder"])
        if encoder != self.metadata["text_encoder"]:
            raise ValueError(
                f"{words}: vectors of the text encoder {encoder}; wanted those of "
                f"{self.metadata['text_encoder']}; write them with `fmbseg export-words`"
            )
        self.classes, self._texts = tuple(str(name) for name in names), {"texts": vectors}

    def __call__(self, image: np.ndarray) -> Answer:
        """Labels and confidence of an RGB image (uint8 [height, width, 3]), at its own size."""
        return self.several([image])[0]

    def several(self, images: Sequence[np.ndarray]) -> list[Answer]:
        """Label images of one size, which go through together.

        Raises:
            ValueError: an image is no uint8 [height, width, 3], or they differ in size.
        """
        for image in images:
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise ValueError(f"image: found {image.dtype} {image.shape}; wanted uint8 [h w 3]")
            if image.shape != images[0].shape:
                raise ValueError(f"images: found {image.shape} beside {images[0].shape}")
        height, width = images[0].shape[:2]
        resized = np.stack([self.resized(image) for image in images])
        rows, cols = (
            a // b for a, b in zip(resized.shape[1:3], self.metadata["patch_hw"], strict=True)
        )
        windows = windows_of((rows, cols), self._window(rows, cols))
        elements = len(images) * len(self.classes) * height * width
        if len(windows) == 1 and elements <= MAX_ELEMENTS:
            labels, confidence = self._session.run(
                ["labels", "confidence"], self.inputs(resized, (height, width))
            )
            kind = np.uint8 if len(self.classes) <= 255 else np.uint16
            return [Answer(*one) for one in zip(labels.astype(kind), confidence, strict=True)]
        grids = self._similarities(resized, (rows, cols), windows)
        return [self._labelled(grid, (height, width)) for grid in grids]

    def inputs(self, image: np.ndarray, size_hw: tuple[int, int]) -> dict[str, np.ndarray]:
        """What the graph takes: resized images [image, height, width, 3] and the wanted size."""
        return {"image": image, "size_hw": np.array(size_hw, np.int64), **self._texts}

    def resized(self, image: np.ndarray) -> np.ndarray:
        """The image at whole patches, its short side as in training; Pillow antialiases."""
        patch_hw, short = self.metadata["patch_hw"], self.metadata["short_side_px"]
        least_hw = [self.metadata["window_px"] or patch for patch in patch_hw]
        height, width = image.shape[:2]
        scale = 1.0 if short is None else short / min(height, width)
        scale = max(scale, least_hw[0] / height, least_hw[1] / width)
        rows, cols = (
            max(round(side * scale / patch), -(-least // patch))
            for side, patch, least in zip((height, width), patch_hw, least_hw, strict=True)
        )
        size_hw = (rows * patch_hw[0], cols * patch_hw[1])
        if size_hw == (height, width):
            return image
        how = Image.Resampling[self.metadata["interpolation"].upper()]
        return np.asarray(Image.fromarray(image).resize(size_hw[::-1], how))

    def _window(self, rows: int, cols: int) -> tuple[int, int]:
        """Rows and columns of the windows that a grid of patches is cut into."""
        patch_hw, window = self.metadata["patch_hw"], self.metadata["window_px"]
        if window:
            return window // patch_hw[0], window // patch_hw[1]
        side = max(1, self.metadata["tile_side_px"] // max(patch_hw))
        across = min(cols, side * side // min(rows, side))
        return min(rows, side * side // across), across

    def _similarities(
        self, images: np.ndarray, grid_hw: tuple[int, int], windows: list[Window]
    ) -> np.ndarray:
        """Class scores [image, class, rows, cols], averaged where windows overlap.

        With the classes built in there are no features to stitch. The scores' average has the same
        winner at every patch, since the length of the averaged feature scales all classes alike.
        """
        patch_hw = self.metadata["patch_hw"]
        total = np.zeros((len(images), len(self.classes), *grid_hw), np.float32)
        weights = np.zeros(grid_hw, np.float32)
        for top, left, down, across in windows:
            part = images[
                :, top * patch_hw[0] : (top + down) * patch_hw[0],
                left * patch_hw[1] : (left + across) * patch_hw[1],
            ]  # fmt: skip
            inputs = self.inputs(np.ascontiguousarray(part), (1, 1))
            (found,) = self._session.run(["similarities"], inputs)
            weight = _ramp(down)[:, None] * _ramp(across)
            total[:, :, top : top + down, left : left + across] += found * weight
            weights[top : top + down, left : left + across] += weight
        return np.asarray(total / weights)

    def _labelled(self, grid: np.ndarray, size_hw: tuple[int, int]) -> Answer:
        """Interpolate some rows at a time, so that classes x pixels are never held whole."""
        kind = np.uint8 if len(grid) <= 255 else np.uint16
        labels, confidence = np.empty(size_hw, kind), np.empty(size_hw, np.float32)
        left, right, across = _taps(grid.shape[2], size_hw[1])
        first, second, down = _taps(grid.shape[1], size_hw[0])
        step = max(1, MAX_ELEMENTS // 4 // (len(grid) * size_hw[1]))
        for top in range(0, size_hw[0], step):
            rows, start = slice(top, top + step), first[top]
            near = grid[:, start : second[rows][-1] + 1]
            wide = near[:, :, left] * (1 - across) + near[:, :, right] * across
            upper, lower, part = first[rows] - start, second[rows] - start, down[rows, None]
            cosines = wide[:, upper] * (1 - part) + wide[:, lower] * part
            labels[rows] = cosines.argmax(0)
            cosines -= cosines.max(0)
            cosines /= np.float32(self.metadata["temperature"])
            confidence[rows] = 1 / np.exp(cosines, out=cosines).sum(0)
        return Answer(labels, confidence)


def windows_of(grid_hw: tuple[int, int], window_hw: tuple[int, int]) -> list[Window]:
    """Cover a grid of patches by overlapping windows, the last ones shifted back to the border."""
    tops, lefts = (
        [*range(0, length - window, max(1, window - window // OVERLAP)), max(0, length - window)]
        for length, window in zip(grid_hw, window_hw, strict=True)
    )
    return [(top, left, *window_hw) for top in tops for left in lefts]


def _ramp(length: int) -> np.ndarray:
    """Rise over the overlap from the border inwards, linearly, to 1."""
    from_border = np.arange(1, length + 1, dtype=np.float32)
    nearest = np.minimum(from_border, from_border[::-1])
    return np.asarray((nearest / max(length // OVERLAP, 1)).clip(max=1))


def _taps(cells: int, pixels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which two cells each pixel lies between along an axis, and the share of the second."""
    place = ((np.arange(pixels) + 0.5) * (cells / pixels) - 0.5).clip(min=0)
    first = np.minimum(place.astype(np.int64), cells - 1)
    share = (place - first).clip(0, 1).astype(np.float32)
    return first, np.minimum(first + 1, cells - 1), share


def read_rgb(path: str | Path) -> np.ndarray:
    """A picture as RGB uint8 [height, width, 3], upright: alpha over white, 16 bits as 8."""
    with Image.open(path) as opened:
        opened.load()
        picture: Image.Image = opened
        with contextlib.suppress(Exception):  # a damaged EXIF block makes no pixel bad
            picture = ImageOps.exif_transpose(opened)
        if picture.mode.startswith("I"):
            values = np.asarray(picture).astype(np.int64)
            if picture.mode != "I" or values.max() > 255:
                values = (values + 128) // 257
            return np.repeat(values.clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
        if picture.has_transparency_data:
            layer = picture.convert("RGBA")
            picture = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
        return np.asarray(picture.convert("RGB"))


def main() -> None:
    """Write `<name>.labels.png` beside each image, and say which classes it holds."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("model", help="the ONNX file")
    parser.add_argument("images", nargs="+", type=Path)
    parser.add_argument("--words", help="text vectors (.npz) of a model exported with --open")
    arguments = parser.parse_args()
    runner = Runner(arguments.model, arguments.words)
    for path in arguments.images:
        answer = runner(read_rgb(path))
        out = path.with_suffix(".labels.png")
        Image.fromarray(answer.labels).save(out)
        shares = np.bincount(answer.labels.ravel()) / answer.labels.size
        named = sorted(zip(shares, runner.classes, strict=False), reverse=True)
        print(out, ", ".join(f"{name} {share:.0%}" for share, name in named if share >= 0.005))


if __name__ == "__main__":
    main()
