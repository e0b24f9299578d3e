"""Synonyms of a public data set's classes: from its class file to the words a method is asked."""

from pathlib import Path

import pytest

from fmbseg.datasets import DatasetError
from fmbseg.datasets.catalogue import CATALOGUE
from fmbseg.evaluate.prepared import PreparedMethod
from fmbseg.fetch.install import _class_file
from fmbseg.methods.maskclip import DenseClipSegmentation
from fmbseg.steps import evaluate, evaluation_sets
from fmbseg.steps.workspace import Workspace
from tests.support import official_trees as trees
from tests.support.checkouts import set_params
from tests.support.method_fakes import ColourClip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    trees.voc2012(tmp_path / "data/benchmarks")
    set_params(tmp_path, {"evaluate": {"data_sets": ["voc20", "voc21"]}})
    return tmp_path


def with_synonyms(root: Path, name: str) -> Path:
    file = _class_file(CATALOGUE[name], root / "data/benchmarks")
    file.write_text(file.read_text().replace("cat\n", "cat, kitten, tom\n"))
    return file


@pytest.mark.parametrize("name", ["voc20", "voc21"])
def test_synonyms_of_the_class_file_reach_the_classes_and_the_units_key(root: Path, name: str):
    workspace = Workspace.open(root)
    plain, inputs = (
        evaluation_sets.open_evaluation_set(workspace, name),
        evaluation_sets.inputs(workspace, name),
    )
    assert not any(plain.classes.synonyms)
    file = _class_file(CATALOGUE[name], root / "data/benchmarks")
    assert evaluation_sets.inputs(workspace, name) == inputs, (
        "without synonyms the file changes nothing"
    )
    with_synonyms(root, name)
    column = evaluation_sets.open_evaluation_set(workspace, name)
    assert column.classes.names == plain.classes.names == CATALOGUE[name].classes.names
    given = dict(zip(column.classes.names, column.classes.synonyms, strict=True))
    assert {one: others for one, others in given.items() if others} == {"cat": ("kitten", "tom")}
    assert evaluation_sets.inputs(workspace, name) != inputs
    before = file.read_bytes()
    assert _class_file(CATALOGUE[name], root / "data/benchmarks") == file
    assert file.read_bytes() == before, "another download leaves the user's synonyms"


def test_a_class_file_of_other_names_is_refused_with_the_first_of_them(root: Path):
    file = with_synonyms(root, "voc20")
    file.write_text(file.read_text().replace("horse\n", "pony, horse\n"))
    workspace = Workspace.open(root)
    with pytest.raises(DatasetError, match=r"voc20\.classes\.txt: found the class 'pony', wanted"):
        evaluation_sets.open_evaluation_set(workspace, "voc20")
    file.write_text("aeroplane\n")
    with pytest.raises(DatasetError, match="found the class None, wanted 'bicycle'"):
        evaluation_sets.open_evaluation_set(workspace, "voc20")


@pytest.mark.parametrize(
    ("protocol", "synonyms", "way"),
    [("tcl", "protocol", "none"), ("tcl", "mean", "mean"), ("sclip", "protocol", "max"),
     ("sclip", "none", "none"), ("whole", "protocol", "mean"), ("whole", "max", "max")],
)  # fmt: skip
def test_what_becomes_of_synonyms_is_a_parameter_and_part_of_the_protocol(
    root: Path, protocol: str, synonyms: str, way: str
):
    with_synonyms(root, "voc20")
    set_params(root, {"evaluate": {"protocol": protocol, "synonyms": synonyms}})
    workspace = Workspace.open(root)
    column = evaluation_sets.open_evaluation_set(workspace, "voc20")
    rules = evaluate.protocol(workspace, column)
    assert rules.facts()["synonyms"] == way
    set_params(root, {"evaluate": {"synonyms": "protocol"}})
    own = evaluate.protocol(Workspace.open(root), column)
    assert (own.digest == rules.digest) == (own.synonyms == way)
    asked = PreparedMethod(rules, DenseClipSegmentation(ColourClip()), column.classes).asked
    assert ("kitten" in asked) == (way == "max")
    assert len(asked) == 20 + 2 * (way == "max")
