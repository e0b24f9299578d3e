"""A procedural world with pixel-exact labels: six stuff textures, ten things, 128 by 128 px.

Every image is a function of (seed, split, index) alone, so any one can be drawn again without the
others. Splits never share an image. `looks` change the light and the palette, not the labels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int32, UInt8
from PIL import Image, ImageDraw

from fmbseg.miniature.things import PALETTE, THINGS, Part

SIZE_PX = 128
STUFF: tuple[str, ...] = ("sky", "grass", "water", "sand", "road", "brick wall")
SEEN_THINGS: tuple[str, ...] = tuple(THINGS)[:8]
UNSEEN_THINGS: tuple[str, ...] = tuple(THINGS)[8:]
CLASS_NAMES: tuple[str, ...] = STUFF + tuple(THINGS)
SEEN_CLASS_NAMES: tuple[str, ...] = STUFF + SEEN_THINGS

Split = Literal["pretrain", "train", "val", "test"]
Look = Literal["day", "night", "fog", "palette"]
_SPLIT_KEYS: dict[str, int] = {"pretrain": 11, "train": 23, "val": 37, "test": 53}
_SUPERSAMPLE = 2
_LAYOUTS: tuple[tuple[str, ...], ...] = (
    ("sky", "grass"), ("sky", "water"), ("sky", "sand"), ("sky", "road"),
    ("sky", "water", "sand"), ("sky", "grass", "road"), ("sky", "brick wall", "road"),
    ("sky", "brick wall", "grass"), ("brick wall", "road"), ("brick wall", "grass"),
    ("brick wall", "sand"), ("sky", "water", "grass"),
)  # fmt: skip


@dataclass(frozen=True)
class WorldInstance:
    """One drawn thing. `name` is its class, `colour` its colour word, `index` its instance id."""

    index: int
    name: str
    colour: str


@dataclass(frozen=True)
class WorldImage:
    """One image of the world with its exact labels.

    Attributes:
        name: `<split>-<index>`, unique within a seed.
        image: RGB, 0 to 255.
        labels: index into `CLASS_NAMES` for every pixel.
        instances: 0 for stuff, i > 0 for the i-th thing (`things[i - 1]`).
        things: what was drawn, in painting order (a later one covers an earlier one).
    """

    name: str
    image: UInt8[np.ndarray, "height width 3"]
    labels: UInt8[np.ndarray, "height width"]
    instances: Int32[np.ndarray, "height width"]
    things: tuple[WorldInstance, ...]

    def save(self, folder: Path) -> None:
        """Write `images/<name>.png` and `labels/<name>.png` below a folder."""
        for part, pixels in (("images", self.image), ("labels", self.labels)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / part / f"{self.name}.png")


def generate(
    seed: int,
    count: int,
    split: Split = "train",
    *,
    start: int = 0,
    thing_names: tuple[str, ...] = SEEN_THINGS,
    look: Look = "day",
) -> Iterator[WorldImage]:
    """Draw images `start` to `start + count - 1` of a split.

    Args:
        seed: the world's seed; the same seed and index give the same pixels.
        count: how many images.
        split: `pretrain` feeds the foundation models, `train` / `val` / `test` the method.
        start: index of the first image.
        thing_names: the things that may appear.
        look: light and palette; labels do not depend on it.

    Yields:
        `WorldImage`, 128 by 128 px.

    Raises:
        ValueError: an unknown split or thing.
    """
    if split not in _SPLIT_KEYS:
        raise ValueError(f"unknown split {split!r}; wanted one of {sorted(_SPLIT_KEYS)}")
    if unknown := sorted(set(thing_names) - set(THINGS)):
        raise ValueError(f"unknown things {unknown}; the world draws {sorted(THINGS)}")
    for index in range(start, start + count):
        rng = np.random.default_rng([seed, _SPLIT_KEYS[split], index])
        yield _draw_image(rng, f"{split}-{index:05d}", thing_names, look)


def _draw_image(
    rng: np.random.Generator, name: str, thing_names: tuple[str, ...], look: Look
) -> WorldImage:
    big = SIZE_PX * _SUPERSAMPLE
    labels = _draw_layout(rng)
    canvas = np.zeros((SIZE_PX, SIZE_PX, 3), np.float32)
    for index in np.unique(labels):
        where = labels == index
        canvas[where] = _texture(STUFF[index], rng)[where]
    picture = Image.fromarray(canvas.clip(0, 255).astype(np.uint8)).resize((big, big))
    drawer = ImageDraw.Draw(picture)
    instances = Image.new("I", (big, big), 0)
    marker = ImageDraw.Draw(instances)
    things: list[WorldInstance] = []
    for centre_xy, radius in _places(rng):
        thing_name = str(rng.choice(thing_names))
        colour = str(rng.choice(THINGS[thing_name].colours))
        rgb = np.array(PALETTE[colour]) + rng.normal(0, 12, 3)
        red, green, blue = (int(v) for v in rgb.clip(0, 255))
        angle, flip = rng.uniform(-0.2, 0.2), rng.choice((-1.0, 1.0))
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        stretch = rng.uniform(0.88, 1.12)
        frame = turn @ np.diag([flip * stretch, 1 / stretch]) * radius * _SUPERSAMPLE
        things.append(WorldInstance(len(things) + 1, thing_name, colour))
        for part in THINGS[thing_name].draw((red, green, blue)):
            outline = _outline(part) @ frame.T + np.array(centre_xy) * _SUPERSAMPLE
            corners = [(float(x), float(y)) for x, y in outline]
            drawer.polygon(corners, fill=part.colour)
            marker.polygon(corners, fill=len(things))
    small = np.asarray(picture.resize((SIZE_PX, SIZE_PX), Image.Resampling.BOX), np.float32)
    half = _SUPERSAMPLE // 2
    ids = np.asarray(instances, np.int32)[half::_SUPERSAMPLE, half::_SUPERSAMPLE]
    for thing in things:
        labels[ids == thing.index] = CLASS_NAMES.index(thing.name)
    image = _apply_look(small + rng.normal(0, 5, small.shape), look, rng)
    return WorldImage(name, image.clip(0, 255).astype(np.uint8), labels, ids, tuple(things))


def _draw_layout(rng: np.random.Generator) -> UInt8[np.ndarray, "height width"]:
    """Two or three bands with gently waved borders."""
    bands = _LAYOUTS[rng.integers(len(_LAYOUTS))]
    labels = np.full((SIZE_PX, SIZE_PX), STUFF.index(bands[0]), np.uint8)
    cuts = {2: (rng.uniform(0.3, 0.6),), 3: (rng.uniform(0.25, 0.4), rng.uniform(0.55, 0.72))}
    x = np.arange(SIZE_PX)
    for band, cut in zip(bands[1:], cuts[len(bands)], strict=True):
        wave: np.ndarray = rng.uniform(0, 3) * np.sin(x / rng.uniform(9, 30) + rng.uniform(0, 6))
        if band in ("brick wall", "road"):
            wave = rng.uniform(-0.05, 0.05) * (x - SIZE_PX / 2)
        border = cut * SIZE_PX + wave
        labels[np.arange(SIZE_PX)[:, None] >= border[None, :]] = STUFF.index(band)
    return labels


def _places(rng: np.random.Generator) -> list[tuple[tuple[float, float], float]]:
    """Centres (x, y) and radii in px of one to three things that hardly overlap."""
    wanted = int(rng.integers(1, 4))
    placed: list[tuple[tuple[float, float], float]] = []
    for _ in range(40):
        if len(placed) == wanted:
            break
        radius = float(rng.uniform(22, 36))
        x, y = (float(v) for v in rng.uniform(radius * 0.8, SIZE_PX - radius * 0.8, 2))
        far = all(np.hypot(x - px, y - py) > 0.9 * (radius + pr) for (px, py), pr in placed)
        if far:
            placed.append(((x, y), radius))
    return placed


def _outline(part: Part) -> np.ndarray:
    if part.box is None:
        return np.array(part.points)
    first, last = np.array(part.box).reshape(2, 2)
    turn = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    circle = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    return np.asarray((first + last) / 2 + (last - first) / 2 * circle)


def _noise(rng: np.random.Generator, cells_hw: tuple[int, int]) -> np.ndarray:
    """Smooth noise about 0 with roughly `cells_hw` bumps along the two axes."""
    coarse = Image.fromarray(rng.normal(0, 1, cells_hw).astype(np.float32))
    return np.asarray(coarse.resize((SIZE_PX, SIZE_PX), Image.Resampling.BICUBIC))


def _texture(name: str, rng: np.random.Generator) -> np.ndarray:
    """RGB of a whole picture of one stuff, 0 to 255 (not clipped)."""
    y, x = np.mgrid[:SIZE_PX, :SIZE_PX].astype(np.float32)
    tint = rng.normal(0, 10, 3)
    if name == "sky":
        clouds = np.clip(_noise(rng, (4, 5)) + rng.uniform(-1.2, 0.2), 0, 1)[..., None]
        base = np.array([105, 165, 230]) + (y / SIZE_PX * 45)[..., None]
        return np.asarray(base + tint + clouds * (np.array([245, 245, 248]) - base))
    if name == "grass":
        blades = (_noise(rng, (40, 110)) * 20 + _noise(rng, (6, 6)) * 10)[..., None]
        return np.asarray(np.array([80, 155, 55]) + tint + blades * np.array([0.9, 1.1, 0.6]))
    if name == "water":
        waves = np.sin(y / rng.uniform(1.6, 2.6) + _noise(rng, (9, 5)) * 2.2)[..., None]
        ripples = waves * 22 + (_noise(rng, (20, 8)) * 6)[..., None]
        return np.asarray(np.array([35, 95, 150]) + tint + ripples)
    if name == "sand":
        grain = rng.normal(0, 13, (SIZE_PX, SIZE_PX, 1)) + (_noise(rng, (7, 7)) * 9)[..., None]
        return np.asarray(np.array([222, 192, 130]) + tint + grain)
    if name == "road":
        grain = (rng.normal(0, 6, (SIZE_PX, SIZE_PX)) + _noise(rng, (5, 5)) * 5)[..., None]
        line_y = SIZE_PX * rng.uniform(0.78, 0.92)
        dash = (np.abs(y - line_y) < 2.5) & ((x + rng.uniform(0, 40)) % 36 < 20)
        return np.where(dash[..., None], 225, np.array([92, 92, 98]) + tint * 0.4 + grain)
    height, width = rng.uniform(7, 10), rng.uniform(15, 20)
    row = np.floor(y / height)
    shift = (x + (row % 2) * width / 2) % width
    mortar = ((y % height) < 1.6) | (shift < 1.6)
    brick = rng.normal(0, 9, (SIZE_PX, SIZE_PX))[(row % 128).astype(int), (x // width).astype(int)]
    wall = np.array([165, 72, 55]) + tint + brick[..., None]
    return np.where(mortar[..., None], 195 + tint * 0.5, wall)


def _apply_look(image: np.ndarray, look: Look, rng: np.random.Generator) -> np.ndarray:
    if look == "night":
        return np.asarray(image * np.array([0.38, 0.42, 0.6]) + rng.normal(0, 4, image.shape))
    if look == "fog":
        amount = rng.uniform(0.35, 0.6)
        return image * (1 - amount) + 215 * amount
    if look == "palette":
        return (image - 128) * rng.uniform(0.6, 1.3, 3) + 128 + rng.uniform(-35, 35, 3)
    return image
