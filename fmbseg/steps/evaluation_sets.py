"""The data sets that methods are scored on: own data, views of the miniature, benchmarks."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from fmbseg.datasets import Dataset, DatasetError, load
from fmbseg.datasets.benchmark import BenchmarkDataset
from fmbseg.datasets.classes import ClassTable
from fmbseg.datasets.miniature_views import VIEWS, MiniatureView
from fmbseg.steps.corrections import (
    CORRECTIONS,
    HELD_OUT,
    Corrections,
    HeldOut,
    held_out_inputs,
)
from fmbseg.steps.truth import labelled, truth_inputs
from fmbseg.steps.workspace import Workspace
from fmbseg.store import file_sha, sha_of
from fmbseg.vocabulary import Vocabulary, read_classes

HOME = "home"
"""The workspace's own data: the miniature, or the user's folder when it has labels."""


@dataclass(frozen=True)
class EvaluationSet:
    """A data set to score on.

    Attributes:
        name: it is filed under.
        split: of the data set.
        samples: images with labels.
        classes: their names and synonyms.
        background_names: what the class "none of the others" is, where there is one, for protocols
            that ask for it by name.
    """

    name: str
    split: str
    samples: Dataset
    classes: Vocabulary
    background_names: tuple[str, ...] = ()


def names(workspace: Workspace) -> list[str]:
    """The data sets of `evaluate.data_sets` under the names that results are filed under.

    Corrected images that are held out come last, wherever there are any.
    """
    found = []
    for name in workspace.params.evaluate.data_sets:
        if name != HOME:
            found.append(name)
        elif workspace.data_set == "miniature" or workspace.params.data.labels is not None:
            found.append(workspace.data_set)
    return [*found, CORRECTIONS] if Corrections.of(workspace).held_out else found


def open_evaluation_set(workspace: Workspace, name: str) -> EvaluationSet:
    """A data set by the name in `names`.

    Raises:
        DatasetError: it is not there, or incomplete; says what is missing and what fetches it.
        VocabularyError: the class file cannot be used.
    """
    params = workspace.params
    if name == CORRECTIONS:
        classes = read_classes(workspace.classes_path())
        return EvaluationSet(name, HELD_OUT, HeldOut(workspace), classes)
    if name == workspace.data_set:
        split = params.evaluate.split
        home = labelled(workspace, split)
        assert home is not None, "`names` has it only where there are labels"
        classes = read_classes(workspace.classes_path())
        return EvaluationSet(name, split if name == "miniature" else "all", home, classes)
    if name in VIEWS:
        drawn = MiniatureView(
            name, params.evaluate.split, count=params.evaluate.view_images, seed=params.seed
        )
        vocabulary, stuff = Vocabulary(drawn.class_names), drawn.classes.background_names
        return EvaluationSet(name, params.evaluate.split, drawn, vocabulary, stuff)
    samples = load(name, benchmark_root(workspace), "val")
    if not isinstance(samples, BenchmarkDataset):
        raise DatasetError(f"evaluate.data_sets: {name} has no labels of its own to score with")
    table = samples.classes
    synonyms = _synonyms(benchmark_root(workspace) / f"{name}.classes.txt", table)
    vocabulary = Vocabulary(table.names, synonyms)
    return EvaluationSet(name, "val", samples, vocabulary, table.background_names)


def benchmark_root(workspace: Workspace) -> Path:
    """Where public data sets are installed."""
    return workspace.root / workspace.params.data.benchmarks


def inputs(workspace: Workspace, name: str) -> Mapping[str, str]:
    """Name to content hash of all that a data set's figures depend on."""
    if name == CORRECTIONS:
        return held_out_inputs(workspace)
    if name == workspace.data_set:
        return truth_inputs(workspace)
    if name in VIEWS:
        return {}
    benchmark, root = open_evaluation_set(workspace, name), benchmark_root(workspace)
    assert isinstance(benchmark.samples, BenchmarkDataset)
    files = benchmark.samples.sources()
    found = {str(path.relative_to(root)): file_sha(path) for path in files}
    return found | (
        {"synonyms": sha_of(synonyms)} if any(synonyms := benchmark.classes.synonyms) else {}
    )


def _synonyms(path: Path, table: ClassTable) -> tuple[tuple[str, ...], ...]:
    """Synonyms of each class, from the class file that a download writes and users may edit."""
    if not path.is_file():
        return ()
    found = read_classes(path)
    wanted = [one for k, one in enumerate(table.names) if k != table.background_index]
    for own, official in zip_longest(found.names, wanted):
        if own != official:
            raise DatasetError(
                f"{path}: found the class {own!r}, wanted {official!r}; keep the data set's own "
                "names in their order and add synonyms after commas, or delete the file"
            )
    synonyms = dict(zip(found.names, found.synonyms, strict=True))
    return tuple(synonyms.get(one, ()) for one in table.names)
