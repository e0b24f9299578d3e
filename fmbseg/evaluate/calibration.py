"""Confidence against labels: how often a confidence is right, and what it then should have been."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64, Int64

BINS = 50
"""Confidences from 0 to 1 are counted in so many equal bins."""


@dataclass(frozen=True)
class Counted:
    """The labelled pixels of an image by their confidences, of which a map of regions has few.

    Attributes:
        confidence: each that occurs, 0 to 1.
        pixels: with it.
        right: of these, those whose label is the true one.
    """

    confidence: Float64[np.ndarray, " value"]
    pixels: Int64[np.ndarray, " value"]
    right: Int64[np.ndarray, " value"]

    @staticmethod
    def of(confidence: Float[np.ndarray, " pixel"], right: Bool[np.ndarray, " pixel"]) -> "Counted":
        """Count pixels.

        Args:
            confidence: of each, 0 to 1.
            right: whether its label is the true one.
        """
        values, place = np.unique(confidence, return_inverse=True)
        size = len(values)
        return Counted(
            values.astype(np.float64), np.bincount(place, minlength=size),
            np.bincount(place[right], minlength=size),
        )  # fmt: skip

    def through(self, curve: "Curve") -> "Counted":
        """The same pixels with what a curve makes of their confidence."""
        return replace(self, confidence=curve.of(self.confidence))


@dataclass
class Reliability:
    """Labelled pixels by the confidence of their label.

    Attributes:
        pixels: of each bin.
        right: those whose label is the true one.
        total: sum of their confidences.
    """

    pixels: Int64[np.ndarray, " bin"] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    right: Int64[np.ndarray, " bin"] = field(default_factory=lambda: np.zeros(BINS, np.int64))
    total: Float64[np.ndarray, " bin"] = field(default_factory=lambda: np.zeros(BINS))

    def add(self, one: "Counted") -> None:
        """Count the pixels of an image."""
        at = np.minimum((one.confidence * BINS).astype(np.int64), BINS - 1)
        np.add.at(self.pixels, at, one.pixels)
        np.add.at(self.right, at, one.right)
        np.add.at(self.total, at, one.confidence * one.pixels)

    @staticmethod
    def of(images: "Iterable[Counted]") -> "Reliability":
        """The pixels of all these images."""
        found = Reliability()
        for one in images:
            found.add(one)
        return found

    def error(self) -> float:
        """Expected calibration error, 0 to 1: how far confidence and accuracy of a bin lie apart.

        The mean over the pixels.

        Source: Naeini et al., Obtaining well calibrated probabilities using Bayesian binning,
        AAAI 2015.
        """
        return float(np.abs(self.total - self.right).sum() / max(1, self.pixels.sum()))

    def curve(self) -> "Curve | None":
        """Accuracy as a rising function of confidence; None without a pixel.

        Isotonic regression, the bins weighted by their pixels (Zadrozny and Elkan, Transforming
        classifier scores into accurate multiclass probability estimates, KDD 2002).
        """
        from scipy.optimize import isotonic_regression

        seen = self.pixels > 0
        if not seen.any():
            return None
        pixels = self.pixels[seen]
        found = isotonic_regression(self.right[seen] / pixels, weights=pixels)
        return Curve(self.total[seen] / pixels, np.asarray(found.x))

    def table(self) -> list[dict[str, Any]]:
        """The bins that hold pixels: mean confidence, accuracy, pixels."""
        return [
            {"confidence": round(total / pixels, 6), "accuracy": round(right / pixels, 6),
             "pixels": int(pixels)}
            for pixels, right, total in zip(self.pixels, self.right, self.total, strict=True)
            if pixels
        ]  # fmt: skip


@dataclass(frozen=True)
class Curve:
    """From a confidence to the share of pixels that are right with it.

    Attributes:
        confidence: rising, 0 to 1.
        accuracy: of these, never falling, 0 to 1; straight lines between.
    """

    confidence: Float64[np.ndarray, " knot"]
    accuracy: Float64[np.ndarray, " knot"]

    def of(self, confidence: Float64[np.ndarray, " value"]) -> Float64[np.ndarray, " value"]:
        """The share of pixels that are right with each confidence."""
        return np.asarray(np.interp(confidence, self.confidence, self.accuracy))
