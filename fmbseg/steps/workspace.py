"""The workspace: the folder of a run, its parameters and the paths of everything it holds.

A workspace is a folder with params.yaml, data/, models/ and reports/. The repository is one;
`make run IMAGES=...` makes another below runs/.
"""

import functools
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fmbseg.params import Params, load_params
from fmbseg.steps.code import code_of
from fmbseg.store import StoreError, UnitKey, image_sha, read_image, read_json, scan_images
from fmbseg.store.hashes import read_at_once
from fmbseg.store.journal import Journal
from fmbseg.types import Image

RUN_PARAMS = Path(".scratch") / "params"
"""Folder below a workspace that holds the parameters of runs that were given their own."""
DROPS = "drops"
"""Data set and name prefix of the images that came through `data.drops`."""


@dataclass(frozen=True, eq=False)
class Listing:
    """The images of a data set; nobody changes one, since the same is handed to all.

    Attributes:
        images: name to SHA-256 of the file.
        refused: `{"image", "reason"}` of what was never opened, such as a link that leaves the
            folder.
    """

    images: dict[str, str]
    refused: tuple[dict[str, str], ...]

    @staticmethod
    def read(folder: Path) -> "Listing":
        """Read `<folder>/listing.json`; the same object as long as the file stays as it is.

        Raises:
            StoreError: no such file, or it is damaged.
        """
        path = folder / "listing.json"
        try:
            state = path.stat()
        except OSError:
            return _listing(path)
        return _known_listing(
            path.absolute(), state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns
        )

    @staticmethod
    def scan(root: Path) -> "Listing":
        """The images below a folder, with the hashes of their files; none without the folder."""
        if not root.is_dir():
            return Listing({}, ())
        found = scan_images(root)
        with read_at_once(root):
            images = {name: image_sha(f"{root}/{name}") for name in found.names}
        return Listing(
            images,
            tuple({"image": one.image, "reason": one.reason} for one in found.refused),
        )


def _listing(path: Path) -> Listing:
    found = read_json(path)
    return Listing(dict(found["images"]), tuple(found["refused"]))


@functools.lru_cache(maxsize=16)
def _known_listing(path: Path, *state: int) -> Listing:
    return _listing(path)


@functools.lru_cache(maxsize=8)
def _with_drops(found: Listing, dropped: Listing) -> Listing:
    return Listing(
        found.images | {f"{DROPS}/{name}": sha for name, sha in dropped.images.items()},
        found.refused + tuple(
            {**one, "image": f"{DROPS}/{one['image']}"} for one in dropped.refused
        ),
    )  # fmt: skip


@dataclass(frozen=True)
class Workspace:
    """Paths and parameters of one run."""

    root: Path
    params: Params

    @staticmethod
    def open(place: str | Path) -> "Workspace":
        """Read `<workspace>/params.yaml`, or another file of parameters for it.

        Args:
            place: the workspace's folder, or a file in its folder `RUN_PARAMS`.
        """
        file = params_file(place)
        own = Path(place) == file
        return Workspace(
            file.parents[len(RUN_PARAMS.parts)] if own else Path(place), load_params(file)
        )

    @property
    def data_set(self) -> str:
        """`miniature`, or `folder` for the user's own images."""
        return "miniature" if self.params.data.images == "miniature" else "folder"

    @property
    def name(self) -> str:
        """Name of the images: `miniature`, or that of their folder."""
        images = self.params.data.images
        return images if images == "miniature" else folder_name(images)

    @property
    def downloads(self) -> Path:
        """Output folder of the step `download`: one folder per data set."""
        return self.root / "data" / "download"

    @property
    def download(self) -> Path:
        """Folder of the data set that `data.images` names."""
        return self.downloads / self.data_set

    @property
    def drops(self) -> Path:
        """The folder where new images arrive; it need not exist."""
        return self.root / self.params.data.drops

    @property
    def corrections(self) -> Path:
        """The folder of what people put right, a file an image; it need not exist."""
        return self.root / self.params.data.corrections

    @property
    def pseudo_masks(self) -> Path:
        """Output folder of the step `pseudo_masks`: one folder per shard."""
        return self.root / "data" / "pseudo_masks"

    @property
    def subsample(self) -> Path:
        """Output folder of the step `subsample`: the masks that are trained on."""
        return self.root / "data" / "subsample"

    @property
    def train(self) -> Path:
        """Output folder of the step `train`: the trained segmenter."""
        return self.root / "models" / "train"

    @property
    def evaluate(self) -> Path:
        """Output folder of the step `evaluate`: one folder per method and data set."""
        return self.root / "reports" / "evaluate"

    @property
    def report(self) -> Path:
        """Output folder of the step `report`, which holds index.html."""
        return self.root / "reports" / "report"

    @property
    def review(self) -> Path:
        """Output folder of the step `review`: which images to look at first."""
        return self.root / "reports" / "review"

    @property
    def exports(self) -> Path:
        """Output folder of the step `export`: one folder per format."""
        return self.root / "exports"

    def scratch(self, unit: str, key: UnitKey) -> Path:
        """Folder from which an interrupted unit resumes; another key has another folder."""
        return self.root / ".scratch" / unit / key.digest[:16]

    def listing(self) -> Listing:
        """The training images, as the download step recorded them.

        Those that came through `data.drops` are named `drops/...`.
        """
        found = Listing.read(self.download)
        if not (self.downloads / DROPS).is_dir():
            return found
        return _with_drops(found, Listing.read(self.downloads / DROPS))

    def images_root(self) -> Path:
        """The folder that the names of the images not dropped are relative to."""
        root = self.params.data.images
        return self.download / "train" / "images" if root == "miniature" else Path(root)

    def image_path(self, name: str) -> Path:
        """Path of an image that the listing names."""
        if name.startswith(f"{DROPS}/") and (self.downloads / DROPS).is_dir():
            return self.drops / name.removeprefix(f"{DROPS}/")
        return self.images_root() / name

    def classes_path(self) -> Path:
        """Path of the class file."""
        path = self.params.data.classes
        return self.download / "classes.txt" if path == "miniature" else Path(path)

    def read_image(self, name: str) -> Image:
        """An image of the listing, upright RGB.

        Raises:
            UnreadableImageError: it cannot be used; `reason` says why.
        """
        limit = round(self.params.data.max_megapixels * 1e6)
        return read_image(self.image_path(name), max_pixels=limit)

    def key(self, step: str, inputs: dict[str, str], params: dict[str, Any]) -> UnitKey:
        """The content key of one unit of a step.

        Args:
            step: its name; decides which code counts.
            inputs: name to content hash of everything it reads.
            params: the parameters it uses.

        Returns:
            The key; equal keys mean equal outputs.
        """
        code = code_of(step)
        return UnitKey(inputs=inputs, params=params, code=code.files, packages=code.packages)

    def size(self) -> int:
        """Number of training images; 0 before the step `download` has run."""
        try:
            return len(self.listing().images)
        except StoreError:
            return 0

    @property
    def journal(self) -> Journal:
        """The journal of the units that were computed in this workspace."""
        return Journal(self.root / ".scratch" / "journal.jsonl")


def params_file(place: str | Path) -> Path:
    """The file that `Workspace.open` reads."""
    place = Path(place)
    if place.suffix == ".yaml" and place.parent.parts[-len(RUN_PARAMS.parts) :] == RUN_PARAMS.parts:
        return place
    return place / "params.yaml"


def folder_name(images: str | Path) -> str:
    """The name that outputs go by when a folder of images has none of its own.

    Args:
        images: the folder; of one that is called `images` the parent's name is taken.

    Returns:
        Letters, digits, spaces and `_ . -`, at most 60, beginning with a letter or a digit. Two
        folders may share a name.
    """
    folder = Path(images).resolve()
    own = folder.parent.name if folder.name == "images" else folder.name
    kept = re.sub(r"[^\w .-]+", "-", unicodedata.normalize("NFC", own))
    return re.sub(r"^[\W_]+", "", kept)[:60].rstrip(" -.") or "images"
