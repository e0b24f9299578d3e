"""The miniature world as a data set: every image is drawn when it is asked for."""

from typing import get_args

from fmbseg.datasets.base import Dataset, DatasetError, Sample
from fmbseg.miniature import world


class MiniatureDataset(Dataset):
    """`count` images of one split; names are `<split>-<index>` as the world gives them.

    Args:
        split: pretrain, train, val or test.
        count: number of images.
        seed: the world's seed.
        thing_names: the things that may appear. With unseen ones among them the class list is
            the whole of `world.CLASS_NAMES`, else its beginning `world.SEEN_CLASS_NAMES`.
        look: day, night, fog or palette.

    Raises:
        DatasetError: an unknown split, look or thing, or a negative count.
    """

    def __init__(
        self,
        split: str,
        *,
        count: int,
        seed: int = 0,
        thing_names: tuple[str, ...] = world.SEEN_THINGS,
        look: str = "day",
    ) -> None:
        for found, wanted, what in (
            (split, get_args(world.Split), "split"),
            (look, get_args(world.Look), "look"),
        ):
            if found not in wanted:
                raise DatasetError(f"unknown {what} {found!r}; wanted one of {sorted(wanted)}")
        drawable = world.SEEN_THINGS + world.UNSEEN_THINGS
        if unknown := sorted(set(thing_names) - set(drawable)):
            raise DatasetError(f"unknown things {unknown}; wanted some of {sorted(drawable)}")
        if count < 0:
            raise DatasetError(f"found count {count}; wanted 0 or more")
        self._split: world.Split = split  # type: ignore[assignment]  # checked above
        self._seed = seed
        self._thing_names = tuple(thing_names)
        self._look: world.Look = look  # type: ignore[assignment]  # checked above
        unseen = set(thing_names) & set(world.UNSEEN_THINGS)
        self.class_names = world.CLASS_NAMES if unseen else world.SEEN_CLASS_NAMES
        self.names = tuple(f"{split}-{index:05d}" for index in range(count))

    def __getitem__(self, index: int) -> Sample:
        """Draw one image.

        Raises:
            IndexError: no such image.
        """
        at = range(len(self.names))[index]
        (drawn,) = world.generate(
            self._seed, 1, self._split, start=at, thing_names=self._thing_names, look=self._look
        )
        return Sample(drawn.image, drawn.labels, self.names[at])
