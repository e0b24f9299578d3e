"""Numbers of pseudo masks by class, and the classes that have none."""

from dataclasses import dataclass

from fmbseg.store.names import printable


@dataclass(frozen=True)
class MaskCount:
    """Pseudo masks of one class.

    Attributes:
        class_name: the class.
        found_11: masks that stage 1.1 (SAM asked by CLIP) found.
        found_12: masks that stage 1.2 (SAM's automatic masks, labelled by CLIP) found.
        kept_11: those of stage 1.1 that training uses: all of them.
        kept_12: those of stage 1.2 that training uses, after `subsample`.
    """

    class_name: str
    found_11: int
    found_12: int
    kept_11: int
    kept_12: int

    @property
    def found(self) -> int:
        """Masks of both stages before `subsample`."""
        return self.found_11 + self.found_12

    @property
    def kept(self) -> int:
        """Masks of both stages that training uses."""
        return self.kept_11 + self.kept_12


@dataclass(frozen=True)
class NeverFound:
    """Classes without a single pseudo mask in stage 1: no image seems to show them.

    Attributes:
        classes: their names, in the vocabulary's order.
        total: number of classes in the vocabulary.
        images: how many images were looked at.
    """

    classes: tuple[str, ...]
    total: int
    images: int

    def counted(self) -> str:
        """How many, without their names: "4 of 11 classes were never found in 60 images"."""
        count = len(self.classes)
        return (
            f"{count} of {self.total} classes {'was' if count == 1 else 'were'} never found in "
            f"{self.images:,} image{'' if self.images == 1 else 's'}"
        )

    def words(self, most: int = 12) -> str:
        """One line that says so, or an empty text where every class was found.

        Args:
            most: names to print; the others are counted.
        """
        if not self.classes:
            return ""
        names = ", ".join(printable(name) for name in self.classes[:most])
        more = len(self.classes) - most
        rest = f", … ({more} more)" if more > 0 else ""
        return f"{self.counted()}: {names}{rest}; try synonyms"
