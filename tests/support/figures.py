"""Figures of a method that is made up for a test: one of each metric there is."""

from fmbseg.evaluate.metrics import METRICS


def figures(**known: float) -> dict[str, float]:
    """The figures given, and a half for every other metric."""
    return {metric.name: 0.5 for metric in METRICS} | known
