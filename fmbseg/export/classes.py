"""Which classes an export has, and what the labels' own classes become in it."""

from collections.abc import Sequence
from dataclasses import dataclass

from fmbseg.export.labelled import NONE, ExportError
from fmbseg.vocabulary import names_of_line

NO_CLASS = "none"
"""Value of `export.unlabelled` for pixels that stay without a label."""


@dataclass(frozen=True)
class ClassMap:
    """From the labels' classes to those of an export.

    Attributes:
        names: of the export's classes.
        index_of: place of each of the labels' classes among them; `NONE` where it is left out.
        rest: place of the class that pixels without a label get; `NONE` where they get none.
        known: names of the labels' own classes.
    """

    names: tuple[str, ...]
    index_of: tuple[int, ...]
    rest: int
    known: tuple[str, ...]

    def parts_of(self, place: int) -> tuple[str, ...]:
        """The labels' own classes that became a class of the export; none became a new `rest`."""
        return tuple(
            name for name, to in zip(self.known, self.index_of, strict=True) if to == place
        )


def class_map(known: Sequence[str], wanted: Sequence[str] | None, unlabelled: str) -> ClassMap:
    """Choose, merge and order classes.

    Args:
        known: the labels' class names.
        wanted: lines "name" or "name=class=class", in the export's order; None for all, as they
            are. A merged class has the first name of its line, which may be new.
        unlabelled: "none", or the class that pixels without a label get; a new one comes last.

    Raises:
        ExportError: a line names no known class, a class stands in two lines, or two lines have
            one name.
    """
    at = {name: index for index, name in enumerate(known)}
    names: list[str] = []
    index_of = [NONE] * len(known)
    for line in known if wanted is None else wanted:
        name, *parts = (line,) if wanted is None else names_of_line(line, "=")
        for one in parts or [name]:
            if one not in at:
                raise ExportError(
                    f"export.classes: found {one!r} in {line!r}; wanted some of "
                    f"{', '.join(known[:20])}{', ...' if len(known) > 20 else ''}"
                )
            if index_of[at[one]] != NONE:
                raise ExportError(f"export.classes: {one!r} stands in two lines; leave one out")
            index_of[at[one]] = len(names)
        if name in names:
            raise ExportError(f"export.classes: two classes called {name!r}; merge or rename them")
        names.append(name)
    if unlabelled == NO_CLASS:
        return ClassMap(tuple(names), tuple(index_of), NONE, tuple(known))
    if unlabelled not in names:
        names.append(unlabelled)
    return ClassMap(tuple(names), tuple(index_of), names.index(unlabelled), tuple(known))
