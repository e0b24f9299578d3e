"""A few images and what becomes of each class name on them; docs/preview.md.

This is no step of the plan: it makes no unit, only a cache below `.scratch/preview/`, one file an
image, named by the image's hash in a folder named by the models, their settings and the code.
"""

import contextlib
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from fmbseg.errors import UserError
from fmbseg.image_size import size_problem
from fmbseg.preview.page import page
from fmbseg.preview.seen import Seen, load, save, see
from fmbseg.preview.words import Facts, Writings, facts_of
from fmbseg.progress import tracked
from fmbseg.pseudo.looks import feature_of, spread
from fmbseg.steps.foundation_models import clip_of, models_of, models_params
from fmbseg.steps.workspace import Workspace
from fmbseg.store import (
    StoreError,
    UnreadableImageError,
    image_sha,
    load_safetensors,
    save_safetensors,
    sha_of,
)
from fmbseg.store.lines import append_line, read_lines
from fmbseg.types import Image
from fmbseg.vocabulary import Vocabulary, encode

IMAGES = 20
"""So many images are looked at, unless another number is asked for."""
CANDIDATES = 200
"""They are chosen among so many, at most, drawn by the seed; CLIP looks at each of these once."""
TEMPLATES = {
    "{}": "without a template", "a photo of a {}.": "another template",
    "a photo of the {} in the scene.": "another template",
}  # fmt: skip
"""Other templates that every class is tried with, and what they are called."""
_TEMPERATURE = 0.01
"""Of CLIP, where a model does not tell its own; that of the published ones."""


class Preview:
    """Class lists tried on a sample of a workspace's images.

    What CLIP and SAM see of the sample is kept on the disk and in memory, so that another list of
    names costs a second.
    """

    def __init__(self, workspace: Workspace, names: Sequence[str], count: int = IMAGES) -> None:
        """Nothing is looked at yet.

        Args:
            workspace: its models, settings and images; the cache lies below its `.scratch`.
            names: of the images to choose from, as `Workspace.read_image` takes them.
            count: images to look at, at least 1.

        Raises:
            UserError: no image, or a number of images below 1.
        """
        if not names:
            raise UserError(
                f"{workspace.images_root()}: found no image there; wanted a folder with PNG, JPEG, "
                "BMP, TIFF or WebP files, at any depth"
            )
        if count < 1:
            raise UserError(f"--n: found {count}; wanted at least 1 image to look at")
        torch.set_num_threads(workspace.params.threads)
        self._workspace, self._names, self._count = workspace, sorted(names), count
        section = workspace.params.pseudo_masks.model_dump()
        key = workspace.key("preview", {}, {**section, **models_params(workspace, "clip", "sam")})
        self._folder = workspace.root / ".scratch" / "preview" / key.digest[:16]
        self._sample: list[Seen] = []
        self._texts = _Texts(workspace, self._folder / "texts.safetensors")
        self.refused: dict[str, str] = {}
        """Names of images that could not be read to the reason."""

    @staticmethod
    def of(workspace: Workspace) -> "Preview":
        """Of the images that a workspace's listing names.

        Raises:
            StoreError: the step `download` has not run.
            UserError: it found no image.
        """
        return Preview(workspace, list(workspace.listing().images))

    def sample(self) -> list[Seen]:
        """The images that are looked at, as unlike one another as can be; looked at once.

        Raises:
            UserError: none of them can be read.
        """
        if not self._sample:
            chosen = self._chosen()
            for name in tracked(chosen, "preview: CLIP and SAM look"):
                self._sample.append(self._seen(name))
        return self._sample

    def facts(self, vocabulary: Vocabulary) -> Facts:
        """What becomes of the names.

        Raises:
            UserError: fewer than two classes, or no image can be read.
        """
        if len(vocabulary) < 2:
            raise UserError(
                f"--classes: found one class, {vocabulary.names[0]!r}; wanted two or more, since "
                "CLIP can only choose between names: add what else is in the images, such as "
                "background"
            )
        sample = self.sample()
        clip = clip_of(self._workspace, self._workspace.params.models.projection)
        facts = facts_of(
            sample, vocabulary, encode(self._texts, vocabulary), self._writings(vocabulary),
            self._workspace.params.pseudo_masks.presence_votes,
            getattr(clip, "temperature", _TEMPERATURE),
        )  # fmt: skip
        self._texts.save()
        return facts

    def page(self, facts: Facts, *, version: str = "", problem: str = "") -> str:
        """One HTML page that holds all its pictures; see `fmbseg.preview.page.page`."""
        about = f"{self._workspace.name} · {self._workspace.params.models.profile} models"
        return page(self.sample(), facts, about, self.refused, version=version, problem=problem)

    def _writings(self, vocabulary: Vocabulary) -> list[Writings]:
        """Each name of a class that has several alone, and its own name in other templates."""
        own = self._workspace.params.models.template
        found: list[dict[tuple[str, str], Tensor]] = [{} for _ in vocabulary.names]
        for index, group in enumerate(vocabulary.groups):
            if len(group) > 1:
                alone = self._texts.encode_text(list(group))
                found[index] |= {
                    ("one name alone", name): row for name, row in zip(group, alone, strict=True)
                }
        for template in (one for one in TEMPLATES if one != own):
            rows = self._texts.encode_text(list(vocabulary.names), [template])
            for index, name in enumerate(vocabulary.names):
                found[index][TEMPLATES[template], template.format(name)] = rows[index]
        return list(found)

    def _chosen(self) -> list[str]:
        """Names of the sample; CLIP looks at candidates as one crop each, and that is kept."""
        draw = random.Random(self._workspace.params.seed)
        drawn = draw.sample(self._names, min(CANDIDATES, len(self._names)))
        file = self._folder / "candidates.jsonl"
        known = {line["sha"]: line["look"] for line in read_lines(file) if "look" in line}
        p, looks = self._workspace.params, dict[str, Sequence[float]]()
        for name in tracked(drawn, "preview: choosing images"):
            sha = image_sha(self._workspace.image_path(name))
            if sha not in known:
                try:
                    image = self._image(name)
                except UnreadableImageError as error:
                    self.refused[name] = error.reason
                    continue
                clip = clip_of(self._workspace, p.models.projection, whole_crops=True)
                known[sha] = feature_of(clip.encode_dense(image).cls)
                append_line(file, {"sha": sha, "look": known[sha]}, flush=False)
            looks[name] = known[sha]
        if not looks:
            name, reason = next(iter(self.refused.items()))
            raise UserError(
                f"none of {len(drawn)} images can be read, such as {name}: {reason}; wanted one"
            )
        rows = spread(np.array(list(looks.values()), np.float32), self._count).tolist()
        unlike = [list(looks)[row] for row in rows]
        return [*unlike, *(name for name in looks if name not in set(unlike))][: self._count]

    def _image(self, name: str) -> Image:
        image = self._workspace.read_image(name)
        if problem := size_problem(image.shape[:2]):
            raise UnreadableImageError(problem)
        return image

    def _seen(self, name: str) -> Seen:
        """What is kept of an image, or else a look at it."""
        file = self._folder / f"{image_sha(self._workspace.image_path(name))}.safetensors"
        with contextlib.suppress(StoreError):
            return load(file, name)
        models = models_of(self._workspace)
        options = self._workspace.params.pseudo_masks
        seen = see(self._image(name), name, models.clip, models.sam, options)
        save(file, seen)
        return load(file, name)  # with the photo as it is kept: the page is the same every time


class _Texts:
    """CLIP's text features, each computed once; they are kept in a file."""

    def __init__(self, workspace: Workspace, file: Path) -> None:
        self._workspace, self._file = workspace, file
        self._known: dict[str, Tensor] | None = None
        self._saved = 0

    def encode_text(
        self, names: Sequence[str], templates: Sequence[str] | None = None
    ) -> Float[Tensor, "category dim"]:
        """See `ClipModel`; of one template."""
        (template,) = templates or (self._workspace.params.models.template,)
        if self._known is None:
            self._known = {}
            with contextlib.suppress(StoreError):
                self._known |= load_safetensors(self._file)
            self._saved = len(self._known)
        keys = {name: sha_of([template, name]) for name in names}
        new = [name for name, key in keys.items() if key not in self._known]
        if new:
            clip = clip_of(self._workspace, self._workspace.params.models.projection)
            rows = clip.encode_text(new, [template])
            self._known |= {keys[name]: row for name, row in zip(new, rows, strict=True)}
        return torch.stack([self._known[keys[name]] for name in names])

    def save(self) -> None:
        """Keep what is new."""
        if self._known and len(self._known) > self._saved:
            save_safetensors(self._file, self._known)
            self._saved = len(self._known)
