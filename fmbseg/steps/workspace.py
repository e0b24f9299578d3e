"""Where a run's files lie, and what a unit's key is made of: one answer for tasks and DVC stages.

A workspace is a folder with params.yaml, data/, models/ and reports/. The repository is one;
`make run IMAGES=...` makes another below runs/. Model libraries are imported where a model is
needed, so that a look at a workspace is quick.
"""

import contextlib
import json
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fmbseg.params import ModelsParams, Params, load_params
from fmbseg.steps.code import code_shas, package_versions
from fmbseg.store import (
    MANIFEST,
    StoreError,
    UnitKey,
    explain_full_disk,
    read_image,
    read_json,
    require_space,
    run_unit,
    sha_of,
)
from fmbseg.store.journal import Journal
from fmbseg.types import Image

if TYPE_CHECKING:
    from fmbseg.models.build import FoundationModels
    from fmbseg.models.protocols import ClipModel

RUN_PARAMS = Path(".scratch") / "params"
"""Of a workspace: the parameters of single runs that differ from its params.yaml."""
Role = Literal["clip", "sam", "vision"]
DROPS = "drops"
"""Data set and name prefix of the images that came through `data.drops`."""


@dataclass(frozen=True)
class Listing:
    """The images of a data set.

    Attributes:
        images: name to SHA-256 of the file.
        refused: `{"image", "reason"}` of what was never opened, such as a link that leaves the
            folder.
    """

    images: dict[str, str]
    refused: tuple[dict[str, str], ...]

    @staticmethod
    def read(folder: Path) -> "Listing":
        """Read `<folder>/listing.json`."""
        found = read_json(folder / "listing.json")
        return Listing(dict(found["images"]), tuple(found["refused"]))


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
        """What the images are called where runs of several data sets lie side by side."""
        images = self.params.data.images
        return images if images == "miniature" else folder_name(images)

    @property
    def downloads(self) -> Path:
        """Output folder of the step, one folder a data set below it."""
        return self.root / "data" / "download"

    @property
    def download(self) -> Path:
        """The data set that `data.images` names."""
        return self.downloads / self.data_set

    @property
    def drops(self) -> Path:
        """The folder where new images arrive; it need not exist."""
        return self.root / self.params.data.drops

    @property
    def pseudo_masks(self) -> Path:
        """One folder a shard below it."""
        return self.root / "data" / "pseudo_masks"

    @property
    def subsample(self) -> Path:
        """The kept masks."""
        return self.root / "data" / "subsample"

    @property
    def train(self) -> Path:
        """The trained segmenter."""
        return self.root / "models" / "train"

    @property
    def evaluate(self) -> Path:
        """One folder a method and data set below it."""
        return self.root / "reports" / "evaluate"

    @property
    def report(self) -> Path:
        """Holds index.html."""
        return self.root / "reports" / "report"

    def scratch(self, unit: str, key: UnitKey) -> Path:
        """A folder for what a cut step resumes from; it belongs to one key of one unit."""
        return self.root / ".scratch" / unit / key.digest[:16]

    def listing(self) -> Listing:
        """The training images, as the download step recorded them.

        Those that came through `data.drops` are named `drops/...`.
        """
        found = Listing.read(self.download)
        if not (self.downloads / DROPS).is_dir():
            return found
        dropped = Listing.read(self.downloads / DROPS)
        return Listing(
            found.images | {f"{DROPS}/{name}": sha for name, sha in dropped.images.items()},
            found.refused + tuple(
                {**one, "image": f"{DROPS}/{one['image']}"} for one in dropped.refused
            ),
        )  # fmt: skip

    def images_root(self) -> Path:
        """The folder that the names of the images not dropped are relative to."""
        root = self.params.data.images
        return self.download / "train" / "images" if root == "miniature" else Path(root)

    def image_path(self, name: str) -> Path:
        """Where an image of the listing lies."""
        inside = self.images_root()
        if name.startswith(f"{DROPS}/") and (self.downloads / DROPS).is_dir():
            return self.drops / name.removeprefix(f"{DROPS}/")
        return inside / name

    def classes_path(self) -> Path:
        """The class file."""
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
        return UnitKey(
            inputs=inputs, params=params, code=code_shas(step), packages=package_versions()
        )

    def models_params(self, *roles: Role) -> dict[str, Any]:
        """The part of a key that the models named make: settings and hashes of their weights.

        Weights that are not here cannot have changed: what was made with them stays up to date,
        as in a workspace that DVC pulled, by the hashes that stand in its manifests.

        Args:
            roles: the models a unit uses; a change of another one leaves its key alone.
        """
        from fmbseg.models.status import weights_fingerprint

        models = self.params.models
        fingerprint = weights_fingerprint(models.profile, overrides_of(models))
        return {
            **models.model_dump(include={"profile", "projection", "template", *roles}),
            "weights": {role: self._recorded(role, fingerprint[role]) for role in roles},
            "device": self.params.device,
        }

    def _recorded(self, role: Role, fingerprint: str) -> str:
        """The hash of weights that are not here, as a unit recorded it that was made with them."""
        if "sha256:" in fingerprint:
            return fingerprint
        start = f"{fingerprint.split()[0]} sha256:"
        for folder in (self.train, *sorted(self.pseudo_masks.glob("*"))[:1]):
            with contextlib.suppress(StoreError, KeyError, TypeError, AttributeError):
                known = read_json(folder / MANIFEST)["parts"]["params"]["weights"].get(role)
                if isinstance(known, str) and known.startswith(start):
                    return known
        return fingerprint

    def run_unit(
        self,
        step: str,
        folder: Path,
        key: UnitKey,
        compute: Callable[[Path], dict[str, Any] | None],
        *,
        keep: Path | None = None,
        needs_bytes: int = 0,
    ) -> bool:
        """`store.run_unit` with the run's number of torch threads and a line in the journal.

        Args:
            step: name of the step.
            folder: the unit's folder.
            key: what the unit is computed from.
            compute: writes the outputs into the folder it is handed; may return notes for the
                journal.
            keep: folder of resume state.
            needs_bytes: about how much it will write.

        Returns:
            True when there was something to do.

        Raises:
            DiskFullError: the disk has less room than that, or filled up; what is there is whole.
        """
        import torch

        notes: dict[str, Any] = {}

        what = f"{step} {folder.name}"

        def noted(out: Path) -> None:
            require_space(out, needs_bytes, what)
            notes.update(compute(out) or {})

        torch.set_num_threads(self.params.threads)
        unit = folder.relative_to(self.root).as_posix()
        with explain_full_disk(what, folder), self.journal.entry(step, unit, key.digest) as entry:
            entry.computed = run_unit(folder, key, noted, keep=keep)
            entry.notes = {"like": self.like(step), "of_images": self.size(), **notes}
        return entry.computed

    def like(self, step: str) -> str:
        """What two units of a step have to share to take about the same time an image."""
        p = self.params
        sections = {step, "models"} | ({"pseudo_masks"} if step == "evaluate" else set())
        return sha_of([p.model_dump(include=sections), p.device, p.threads])[:12]

    def size(self) -> int:
        """Number of training images; 0 before they are in place."""
        try:
            return len(self.listing().images)
        except StoreError:
            return 0

    @property
    def journal(self) -> Journal:
        """What was computed here, unit by unit."""
        return Journal(self.root / ".scratch" / "journal.jsonl")

    def models(self) -> "FoundationModels":
        """The three foundation models, each built once per process and set of parameters."""
        from fmbseg.models.build import FoundationModels
        from fmbseg.steps import built

        p, section = self.params, self.params.models
        spec, overrides = section.profile, json.dumps(overrides_of(section))
        with built.BUILDING:
            return FoundationModels(
                self._clip(section.projection),
                built.build_sam(spec, overrides, p.device),
                built.build_vision(spec, overrides, p.train.input_short_side_px, p.device),
            )

    def clip(self, projection: str, *, whole_crops: bool = False) -> "ClipModel":
        """CLIP with another projection than `models.projection`.

        Args:
            projection: maskclip, sclip or naclip.
            whole_crops: take every image as one crop, scaled to CLIP's own size.
        """
        from fmbseg.steps import built

        with built.BUILDING:
            return self._clip(projection, whole_crops)

    def _clip(self, projection: str, whole_crops: bool = False) -> "ClipModel":
        from fmbseg.steps import built

        p, section = self.params, self.params.models
        return built.build_clip(
            section.profile, json.dumps(overrides_of(section)), projection, section.template,
            None if whole_crops else p.pseudo_masks.clip_short_side_px,
            p.pseudo_masks.clip_stride_fraction, p.pseudo_masks.clip_batch_crops, p.device,
        )  # fmt: skip


def params_file(place: str | Path) -> Path:
    """The file that `Workspace.open` reads."""
    place = Path(place)
    if place.suffix == ".yaml" and place.parent.parts[-len(RUN_PARAMS.parts) :] == RUN_PARAMS.parts:
        return place
    return place / "params.yaml"


def overrides_of(models: ModelsParams) -> dict[str, dict[str, str]]:
    """The models' keys that replace the profile's."""
    return models.model_dump(include={"clip", "sam", "vision"}, exclude_none=True)


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
