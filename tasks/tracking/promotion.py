"""The policy of promotion: which model a version belongs to, and when it becomes the champion.

Nothing here knows a tracker: a version is its number and its scores.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fmbseg.steps.corrections import CORRECTIONS
from fmbseg.steps.workspace import Workspace
from fmbseg.store import sha_of
from tasks.tracking.facts import images_folder

CHAMPION = "champion"
"""The alias of the version to serve."""
CHALLENGER = "challenger"
"""The alias of the version to hold against the champion: the last one that lost to it, or that it
took the place of."""
AUTO = "auto"
"""The value of `tracking.registered_model` that means a name derived from the images."""
TERMS = "miou."
"""Begins the tag of a version that holds a score."""
ENOUGH = 10
"""With fewer corrected images held out than this, the mIoU on them decides nothing: one image more
would turn it."""


@dataclass(frozen=True)
class Score:
    """An mIoU and what another must share to be compared with it.

    Attributes:
        miou: 0 to 1.
        tag: names method, data set, split, protocol and, for a folder, what was scored.
        words: the same for people.
        data_set: that was scored.
        images: of it.
    """

    miou: float
    tag: str
    words: str
    data_set: str = ""
    images: int = 0


@dataclass(frozen=True)
class Version:
    """A version of a registered model.

    Attributes:
        number: as the registry counts.
        scores: tag of a score to its mIoU.
    """

    number: str
    scores: Mapping[str, float]


@dataclass(frozen=True)
class Decision:
    """Whether a version becomes the champion.

    Attributes:
        promoted: it does.
        reason: why, or why not, for people.
        open_to_people: it was weighed against the champion and lost; somebody may decide otherwise.
        challenger: number of the version that stands beside the champion from now on; None where
            that stays as it is.
    """

    promoted: bool
    reason: str
    open_to_people: bool = False
    challenger: str | None = None


def model_name(workspace: Workspace, images_of: Callable[[str], str | None]) -> str:
    """The registered model's name: that of params.yaml; with `auto`, `fmbseg-<folder of images>`.

    A name that another folder of images took first is followed by a hash of this one's path.

    Args:
        workspace: whose model.
        images_of: name of a registered model to the images that it was made for; None where there
            is no such model.
    """
    named = workspace.params.tracking.registered_model
    if named != AUTO:
        return named
    name, images = f"fmbseg-{workspace.name}", images_folder(workspace)
    shipped = workspace.data_set == "folder" and workspace.name == "miniature"
    if not shipped and (images_of(name) or images) == images:
        return name
    return f"{name}-{sha_of([images])[:6]}"


def score_of(figures: Mapping[str, Any], scored: str) -> Score:
    """A method's mIoU with its terms of comparison.

    Args:
        figures: of its metrics.json.
        scored: digest of the images, labels and class file that were scored; empty where the data
            set's name says it.
    """
    terms = (figures["method"], figures["data_set"], figures["split"], figures["protocol_hash"])
    method, data_set, split, protocol_hash = terms
    words = f"{method} on {data_set} {split}, protocol {protocol_hash}"
    words += f", images and labels {scored}" if scored else ""
    tag = TERMS + ".".join([*terms, *([scored] if scored else [])])
    return Score(figures["miou"], tag, words, data_set, figures["images"])


def that_count(scores: Sequence[Score]) -> list[Score]:
    """The scores that models are compared by, the one that decides first.

    That is the one on the held-out corrections, as soon as they are `ENOUGH` images: what people
    put right themselves says more of their images than any other labels.
    """
    people = [one for one in scores if one.data_set == CORRECTIONS and one.images >= ENOUGH]
    return people + [one for one in scores if one.data_set != CORRECTIONS]


def decide(
    version: Version, score: Score | None, champion: Version | None, workspace: Workspace
) -> Decision:
    """Promote a version if it is better than the champion, or if nothing can be compared.

    The mIoU must exceed the champion's under the same terms by `tracking.champion_margin`. Where
    the two have no terms in common (no labels yet, other data, another protocol), the newer one
    takes the place, except that a version without any mIoU never replaces one that has one.

    Of two that were compared the one that is not the champion is the challenger; a version without
    any mIoU is none beside a champion that has one, nor is one that was trained on labels.

    Args:
        version: the candidate.
        score: its score of the primary method; None when there is none.
        champion: the version that holds the alias; None when there is none.
        workspace: whose parameters rule.
    """
    rules = workspace.params.tracking
    if workspace.params.train.labels == "truth":
        return Decision(
            False, f"version {version.number} was trained on labels (train.labels: truth)"
        )
    mine = f"version {version.number} has no mIoU of the method {rules.primary_method}"
    if score is not None:
        mine = f"version {version.number} has mIoU {score.miou:.4f} ({score.words})"
    if champion is not None and champion.number == version.number:
        return Decision(False, f"{mine} and is the champion already")
    better, why = _compare(version, score, champion, rules.champion_margin)
    challenger = version.number if version.scores else None
    if better:
        challenger = champion.number if champion is not None else None
    return Decision(better, f"{mine}; {why}", not better, challenger)


def _compare(
    version: Version, score: Score | None, champion: Version | None, margin: float
) -> tuple[bool, str]:
    """Whether the version is to take the champion's place, and why."""
    if champion is None:
        return True, "there was no champion"
    mine, theirs = version.scores, champion.scores
    shared = sorted(mine.keys() & theirs.keys())
    if score is not None and score.tag in shared:
        shared = [score.tag]
    if shared:
        tag = min(shared, key=lambda one: mine[one] - theirs[one])
        gain = mine[tag] - theirs[tag]
        rest = f"champion version {champion.number} has {theirs[tag]:.4f}"
        if score is None or tag != score.tag:
            rest += f", this one {mine[tag]:.4f}, as {tag}"
        if gain > margin:
            return True, f"better by more than noise ({margin:g}): the former {rest}"
        if gain >= -margin:
            return False, f"not better than noise ({margin:g}): {rest}"
        return False, f"not better: {rest}"
    if theirs and not mine:
        return (
            False,
            f"not comparable: champion version {champion.number} has one, as {min(theirs)}",
        )
    if mine and theirs:
        return True, (
            f"not comparable with the former champion version {champion.number}, scored as "
            f"{min(theirs)} (this one as {min(mine)}), so the newest complete run is the champion"
        )
    return True, (
        f"the former champion version {champion.number} has none: until there is one to compare, "
        "the newest complete run is the champion"
    )
