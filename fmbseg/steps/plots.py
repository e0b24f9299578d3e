"""Tables of a run that `dvc plots show` and `dvc plots diff` draw; dvc.yaml names them."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from fmbseg.evaluate.confusions import NO_ANSWER
from fmbseg.steps import evaluate
from fmbseg.steps.workspace import Workspace
from fmbseg.store import read_json, write_json


def write(workspace: Workspace, folder: Path) -> None:
    """Write `loss.json`; and, of every method on a data set, `iou/` and `confusion/<unit>.json`.

    A row of the confusions is a true class and an answer that was given in its place, with the
    share of the true class's pixels and the answer's place among the classes, which a chart orders
    its columns by; pairs that never occur have no row.
    """
    write_json(folder / "loss.json", read_json(workspace.train / "history.json"))
    for unit in evaluate.scored(workspace):
        found = workspace.evaluate / unit
        iou: dict[str, float | None] = read_json(found / "metrics.json")["iou"]
        names = [_as_text(name) for name in iou]
        known = [(name, v) for name, v in zip(names, iou.values(), strict=True) if v is not None]
        write_json(folder / "iou" / f"{unit}.json", [{"class": n, "iou": v} for n, v in known])
        confusions = _confusions(names, read_json(found / "confusion.json"))
        write_json(folder / "confusion" / f"{unit}.json", list(confusions), compact=True)


def _as_text(name: str) -> str:
    """The name with a full-width < in it, which looks the same and begins no tag.

    DVC puts these tables into a script of its page as they are, where `</script>` in a class's
    name would end the script and let the name's own begin.
    """
    return name.replace("<", "\uff1c")


def _confusions(
    names: Sequence[str], matrix: Sequence[Sequence[int]]
) -> Iterator[dict[str, str | int | float]]:
    answers = [*names, NO_ANSWER]
    for actual, pixels in zip(names, matrix, strict=True):
        for place, (predicted, count) in enumerate(zip(answers, pixels, strict=True)):
            if count:
                yield {
                    "actual": actual, "predicted": predicted, "place": place,
                    "share": round(count / sum(pixels), 6), "pixels": count,
                }  # fmt: skip
