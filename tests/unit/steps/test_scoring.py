"""Figures of a method on a data set, its images asked for one by one or several at once."""

import threading
from pathlib import Path

import numpy as np

from fmbseg.datasets.base import Dataset, Sample
from fmbseg.evaluate.prepared import PreparedMethod
from fmbseg.evaluate.protocol import protocol_named
from fmbseg.methods.maskclip import DenseClipSegmentation
from fmbseg.models.protocols import DenseClip
from fmbseg.steps.evaluation_sets import EvaluationSet
from fmbseg.steps.scoring import IMAGE_SCORES, Evaluation, score
from fmbseg.store import UnreadableImageError, read_json
from fmbseg.vocabulary import Vocabulary
from tests.support.method_fakes import NAMES, ColourClip, SeveralClip, image, truth


class Pictures(Dataset):
    """Eleven pictures, of which one cannot be read and one has no labels."""

    class_names, background_index = tuple(NAMES), None
    names = tuple(f"{n:02}.png" for n in range(11))

    def __getitem__(self, index: int) -> Sample:
        if index == 2:
            raise UnreadableImageError("damaged")
        labels = None if index == 7 else truth().astype(np.uint8)
        return Sample(np.roll(image(), index, 0), labels, self.names[index])


def scored(clip: ColourClip, folder: Path, threads: int = 1) -> tuple[dict[str, int], list[object]]:
    """What `score` counts and writes, but for the seconds."""
    method = PreparedMethod(
        protocol_named("whole"), DenseClipSegmentation(clip), Vocabulary(tuple(NAMES))
    )
    data_set = EvaluationSet("pictures", "test", Pictures(), Vocabulary(tuple(NAMES)))
    evaluation = Evaluation(method, data_set, 2, 0, threads)
    counts = score(evaluation, folder / "out", folder / "scratch", "")
    files = ("confusion.json", "quarantine.json", IMAGE_SCORES, "metrics.json")
    written = [read_json(folder / "out" / file) for file in files]
    assert written[-1].pop("seconds_per_image") >= 0
    return counts, written


def test_images_that_are_asked_for_together_score_as_alone(tmp_path: Path) -> None:
    several = SeveralClip()
    alone, together = scored(ColourClip(), tmp_path / "a"), scored(several, tmp_path / "b")
    assert alone == together
    assert alone[0] == {"computed": 9, "reused": 0}
    assert several.together == [3, 3, 3], "of four each, without those that cannot be used"


class MeetingClip(ColourClip):
    """A thread's first image is answered when another thread has a first one too."""

    def __init__(self) -> None:
        super().__init__()
        self.two, self.known = threading.Barrier(2, timeout=10), threading.local()

    def encode_dense(self, image: np.ndarray) -> DenseClip:
        if not hasattr(self.known, "met"):
            self.known.met = self.two.wait()
        return super().encode_dense(image)


def test_threads_that_share_the_images_score_as_one(tmp_path: Path) -> None:
    alone = scored(ColourClip(), tmp_path / "a")
    assert scored(MeetingClip(), tmp_path / "b", threads=2) == alone


def test_a_cut_evaluation_asks_for_the_images_that_are_left_together(tmp_path: Path) -> None:
    whole = scored(SeveralClip(), tmp_path)[1]
    lines = (tmp_path / "scratch" / "images.jsonl").read_text().splitlines()
    (tmp_path / "scratch" / "images.jsonl").write_text("".join(f"{one}\n" for one in lines[:3]))
    several = SeveralClip()
    counts, again = scored(several, tmp_path)
    assert counts == {"computed": 6, "reused": 3}
    assert again == whole
    assert sum(several.together) >= 6
