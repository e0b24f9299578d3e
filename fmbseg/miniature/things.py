"""How each thing of the miniature world is drawn: named parts in a unit frame, upright.

A thing is a list of coloured shapes in coordinates x, y from -1 to 1 (y points down), painted in
order. `world.py` scales, turns slightly and places them.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Colour = tuple[int, int, int]
PALETTE: dict[str, Colour] = {
    "red": (205, 45, 40),
    "blue": (45, 80, 200),
    "yellow": (238, 205, 50),
    "green": (40, 140, 60),
    "orange": (236, 130, 35),
    "purple": (135, 60, 165),
    "pink": (235, 125, 165),
    "white": (240, 240, 240),
    "black": (38, 38, 42),
    "brown": (125, 80, 45),
}
DARK, GLASS, WOOD, LEAF = (30, 30, 34), (165, 210, 225), (105, 66, 36), (36, 118, 48)
CREAM, WHITE = (240, 225, 190), (245, 245, 245)


@dataclass(frozen=True)
class Part:
    """One filled shape: a polygon (`points`) or an ellipse (`box` x0 y0 x1 y1), unit frame."""

    colour: Colour
    points: tuple[tuple[float, float], ...] = ()
    box: tuple[float, float, float, float] | None = None


def _poly(colour: Colour, *points: tuple[float, float]) -> Part:
    return Part(colour, points=points)


def _rect(colour: Colour, x0: float, y0: float, x1: float, y1: float) -> Part:
    return Part(colour, points=((x0, y0), (x1, y0), (x1, y1), (x0, y1)))


def _disc(colour: Colour, x: float, y: float, rx: float, ry: float | None = None) -> Part:
    ry = rx if ry is None else ry
    return Part(colour, box=(x - rx, y - ry, x + rx, y + ry))


def _shade(colour: Colour, factor: float) -> Colour:
    r, g, b = (int(np.clip(channel * factor, 0, 255)) for channel in colour)
    return (r, g, b)


def _car(c: Colour) -> list[Part]:
    return [
        _poly(c, (-0.55, -0.1), (-0.35, -0.55), (0.35, -0.55), (0.6, -0.1)),
        _poly(GLASS, (-0.42, -0.1), (-0.28, -0.45), (-0.04, -0.45), (-0.04, -0.1)),
        _poly(GLASS, (0.06, -0.1), (0.06, -0.45), (0.3, -0.45), (0.46, -0.1)),
        _rect(c, -1.0, -0.12, 1.0, 0.38),
        _rect(_shade(c, 0.7), -1.0, 0.24, 1.0, 0.38),
        _disc(DARK, -0.55, 0.38, 0.27),
        _disc(DARK, 0.55, 0.38, 0.27),
        _disc((190, 190, 195), -0.55, 0.38, 0.11),
        _disc((190, 190, 195), 0.55, 0.38, 0.11),
    ]


def _house(c: Colour) -> list[Part]:
    return [
        _rect(CREAM, -0.75, -0.15, 0.75, 0.95),
        _poly(c, (-1.0, -0.1), (0.0, -0.95), (1.0, -0.1)),
        _rect(WOOD, -0.16, 0.35, 0.18, 0.95),
        _rect(GLASS, -0.6, 0.08, -0.28, 0.42),
        _rect(GLASS, 0.3, 0.08, 0.62, 0.42),
        _rect(DARK, -0.46, 0.08, -0.42, 0.42),
        _rect(DARK, 0.44, 0.08, 0.48, 0.42),
    ]


def _tree(c: Colour) -> list[Part]:
    return [
        _rect(WOOD, -0.15, 0.2, 0.15, 1.0),
        _disc(_shade(c, 0.8), -0.4, 0.0, 0.45),
        _disc(_shade(c, 0.9), 0.4, 0.0, 0.45),
        _disc(c, 0.0, -0.42, 0.55),
        _disc(_shade(c, 1.15), -0.12, -0.5, 0.26),
    ]


def _boat(c: Colour) -> list[Part]:
    return [
        _rect(WOOD, -0.06, -0.95, 0.04, 0.4),
        _poly(WHITE, (0.08, -0.9), (0.08, 0.25), (0.85, 0.25)),
        _poly(_shade(WHITE, 0.85), (-0.1, -0.7), (-0.1, 0.25), (-0.65, 0.25)),
        _poly(c, (-1.0, 0.35), (1.0, 0.35), (0.65, 0.9), (-0.65, 0.9)),
        _rect(_shade(c, 0.65), -0.92, 0.35, 0.92, 0.48),
    ]


def _mushroom(c: Colour) -> list[Part]:
    cap = [(np.cos(a), -0.05 + 0.85 * -np.sin(a)) for a in np.linspace(0, np.pi, 14)]
    return [
        _poly(CREAM, (-0.28, -0.1), (0.28, -0.1), (0.38, 0.9), (-0.38, 0.9)),
        Part(c, points=tuple((float(x), float(y)) for x, y in cap)),
        _disc(WHITE, 0.0, -0.58, 0.17),
        _disc(WHITE, -0.55, -0.3, 0.14),
        _disc(WHITE, 0.52, -0.28, 0.15),
        _disc(WHITE, 0.02, -0.18, 0.1),
    ]


def _cat(c: Colour) -> list[Part]:
    return [
        _poly(c, (-0.78, -0.25), (-0.68, -0.98), (-0.15, -0.6)),
        _poly(c, (0.78, -0.25), (0.68, -0.98), (0.15, -0.6)),
        _poly((235, 150, 165), (-0.62, -0.45), (-0.6, -0.8), (-0.34, -0.6)),
        _poly((235, 150, 165), (0.62, -0.45), (0.6, -0.8), (0.34, -0.6)),
        _disc(c, 0.0, 0.05, 0.86, 0.76),
        _disc((180, 215, 70), -0.34, -0.1, 0.17, 0.2),
        _disc((180, 215, 70), 0.34, -0.1, 0.17, 0.2),
        _disc(DARK, -0.34, -0.1, 0.07, 0.17),
        _disc(DARK, 0.34, -0.1, 0.07, 0.17),
        _disc(WHITE, 0.0, 0.42, 0.34, 0.24),
        _poly((225, 110, 130), (-0.12, 0.26), (0.12, 0.26), (0.0, 0.42)),
    ]


def _fish(c: Colour) -> list[Part]:
    return [
        _poly(_shade(c, 0.75), (0.4, 0.0), (1.0, -0.6), (0.86, 0.0), (1.0, 0.6)),
        _poly(_shade(c, 0.75), (-0.3, -0.35), (0.1, -0.85), (0.35, -0.3)),
        _disc(c, -0.18, 0.0, 0.8, 0.52),
        _rect(WHITE, -0.32, -0.5, -0.16, 0.5),
        _rect(WHITE, 0.12, -0.46, 0.26, 0.46),
        _disc(WHITE, -0.62, -0.14, 0.14),
        _disc(DARK, -0.64, -0.14, 0.07),
    ]


def _umbrella(c: Colour) -> list[Part]:
    top = [(np.cos(a), 0.05 + 0.95 * -np.sin(a)) for a in np.linspace(0, np.pi, 16)]
    wedge = [(0.36 * np.cos(a), 0.05 + 0.95 * -np.sin(a)) for a in np.linspace(0, np.pi, 12)]
    return [
        _rect(DARK, -0.05, 0.0, 0.05, 0.85),
        _rect(DARK, -0.05, 0.8, 0.3, 0.92),
        Part(c, points=tuple((float(x), float(y)) for x, y in top)),
        Part(WHITE, points=tuple((float(x), float(y)) for x, y in wedge)),
    ]


def _butterfly(c: Colour) -> list[Part]:
    dots = _shade(c, 0.55)
    return [
        _disc(c, -0.52, -0.4, 0.46, 0.5),
        _disc(c, 0.52, -0.4, 0.46, 0.5),
        _disc(_shade(c, 0.85), -0.42, 0.45, 0.36, 0.42),
        _disc(_shade(c, 0.85), 0.42, 0.45, 0.36, 0.42),
        _disc(dots, -0.58, -0.42, 0.2),
        _disc(dots, 0.58, -0.42, 0.2),
        _disc(WHITE, -0.42, 0.48, 0.13),
        _disc(WHITE, 0.42, 0.48, 0.13),
        _disc(DARK, 0.0, 0.0, 0.12, 0.82),
    ]


def _balloon(c: Colour) -> list[Part]:
    return [
        _poly(WOOD, (-0.45, 0.2), (-0.2, 0.72), (0.2, 0.72), (0.45, 0.2)),
        _disc(c, 0.0, -0.3, 0.72, 0.7),
        _disc(_shade(WHITE, 0.97), 0.0, -0.3, 0.4, 0.7),
        _disc(c, 0.0, -0.3, 0.16, 0.7),
        _rect(_shade(WOOD, 1.3), -0.22, 0.66, 0.22, 0.98),
    ]


@dataclass(frozen=True)
class Thing:
    """A drawable class: its parts as a function of one colour, and the colours it comes in."""

    draw: Callable[[Colour], list[Part]]
    colours: tuple[str, ...]


THINGS: dict[str, Thing] = {
    "car": Thing(_car, ("red", "blue", "yellow", "black")),
    "house": Thing(_house, ("red", "brown", "blue", "orange")),
    "tree": Thing(_tree, ("green", "orange")),
    "boat": Thing(_boat, ("red", "brown", "blue", "black")),
    "mushroom": Thing(_mushroom, ("red", "purple", "brown")),
    "cat": Thing(_cat, ("orange", "black", "white", "brown")),
    "fish": Thing(_fish, ("orange", "blue", "purple", "red")),
    "umbrella": Thing(_umbrella, ("purple", "red", "blue", "yellow")),
    "butterfly": Thing(_butterfly, ("yellow", "purple", "pink", "blue")),
    "balloon": Thing(_balloon, ("red", "yellow", "pink", "blue")),
}
