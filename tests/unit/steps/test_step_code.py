"""The code part of the units' keys: what changes it, and what does not."""

import ast
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from fmbseg.steps import syntax
from fmbseg.steps.code import LIBRARY, StepCode, code_of
from fmbseg.steps.plan import PLAN
from tests.conftest import REPOSITORY

STEPS = [step.name for step in PLAN]


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """A copy of the library's code and data files."""
    return copied(tmp_path)


def copied(where: Path) -> Path:
    copy = where / "fmbseg"
    shutil.copytree(LIBRARY, copy, ignore=shutil.ignore_patterns("__pycache__", "weights"))
    return copy


def code(step: str, library: Path) -> StepCode:
    syntax.parsed.cache_clear()
    code_of.cache_clear()
    return code_of(step, library)


def constants(tree: ast.Module) -> Iterator[ast.Constant]:
    """Numbers, and strings that are no docstrings."""
    texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or id(node) in texts:
            continue
        if isinstance(node.value, str):
            if node.value and "fmbseg" not in node.value:
                yield node
        elif isinstance(node.value, int | float) and not isinstance(node.value, bool):
            yield node


def change_constant(path: Path, draw: random.Random) -> bool:
    """Change one constant of a file; False where there is none."""
    tree = ast.parse(path.read_text())
    found = list(constants(tree))
    if not found:
        return False
    one = draw.choice(found)
    one.value = one.value + "x" if isinstance(one.value, str) else one.value + 1
    path.write_text(ast.unparse(tree))
    return True


@pytest.mark.parametrize("step", STEPS)
def test_a_changed_constant_in_any_file_of_the_closure_changes_the_key(step: str, library: Path):
    before, draw = code(step, library), random.Random(step)
    assert len(before.files) > 10
    names = [name for name in before.files if name.endswith(".py")]
    changed = 0
    for name in draw.sample(names, min(8, len(names))):
        original = (library / name).read_text()
        if "DATA_FILES" in original or not change_constant(library / name, draw):
            continue
        after = code(step, library)
        assert {n for n in before.files if before.files[n] != after.files.get(n)} == {name}
        (library / name).write_text(original)
        changed += 1
    assert changed > 3
    assert code(step, library) == before


@pytest.mark.parametrize("step", STEPS)
def test_comments_docstrings_layout_and_files_that_are_not_imported_change_no_key(
    step: str, library: Path
):
    before = code(step, library)
    for name in before.files:
        if name.endswith(".py"):
            text = (library / name).read_text()
            tree = ast.parse(text)
            for node in ast.walk(tree):
                texts = (
                    [n for n in getattr(node, "body", ()) if isinstance(n, ast.Expr)]
                    if (isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef))
                    else []
                )
                for one in texts:
                    if isinstance(one.value, ast.Constant) and isinstance(one.value.value, str):
                        one.value.value = "Other words."
            (library / name).write_text(f"# a comment\n{ast.unparse(tree)}\n")
    others = [p for p in library.rglob("*.py") if str(p.relative_to(library)) not in before.files]
    assert others
    for path in others:
        if path.name != "__init__.py" and "DECIDES_OUTPUTS = False" not in path.read_text():
            path.write_text("raise RuntimeError\n")
    assert code(step, library) == before


def test_the_worlds_geometry_belongs_to_evaluations_on_its_views(library: Path):
    before = code("evaluate", library)
    world = library / "miniature" / "world.py"
    assert change_constant(world, random.Random(0))
    assert code("evaluate", library) != before


@pytest.mark.parametrize(
    ("step", "file"),
    [
        ("pseudo_masks", "models/sam.py"),
        ("evaluate", "pseudo/settings.py"),
        ("evaluate", "pseudo/prompts.py"),
        ("report", "segmenter.py"),
        ("train", "steps/validation.py"),
        ("download", "miniature/world.py"),
    ],
)
def test_files_that_are_imported_in_between_belong_to_the_key(step: str, file: str):
    assert file in code_of(step).files


@pytest.mark.parametrize(
    ("step", "file"),
    [
        ("download", "models/sam.py"),
        ("subsample", "pseudo/automatic.py"),
        ("train", "pseudo/automatic.py"),
        ("train", "datasets/ade_names.py"),
        ("pseudo_masks", "align/loss.py"),
        ("pseudo_masks", "progress.py"),
    ],
)
def test_what_a_step_does_not_use_outdates_nothing(step: str, file: str):
    assert file not in code_of(step).files


def test_upstream_packages_are_those_that_the_steps_files_import():
    packages = {step: set(code_of(step).packages) for step in STEPS}
    assert {"torch", "timm", "segment-anything", "open-clip-torch"} <= packages["pseudo_masks"]
    assert not {"timm", "segment-anything", "open-clip-torch", "jinja2"} & packages["subsample"]
    assert "jinja2" in packages["report"]
    assert "jinja2" not in packages["evaluate"]
    assert all(not {"prefect", "tqdm"} & found for found in packages.values())


def test_data_files_count_by_their_bytes_and_every_one_is_declared(library: Path):
    before = code("report", library)
    templates = [name for name in before.files if name.endswith(".j2")]
    assert templates
    (library / templates[0]).write_text("other")
    assert code("report", library).files[templates[0]] != before.files[templates[0]]
    declared = {
        str(path.relative_to(LIBRARY))
        for file in LIBRARY.rglob("*.py")
        for node in ast.parse(file.read_text()).body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DATA_FILES"
        for pattern in ast.literal_eval(node.value)
        for path in file.parent.glob(pattern)
    }
    present = {
        str(path.relative_to(LIBRARY))
        for path in LIBRARY.rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc")
    }
    others = ("miniature/weights/", "commands/")  # fingerprinted; of no step
    assert {name for name in present if not name.startswith(others)} == declared | {"py.typed"}


def test_no_file_imports_by_a_name_that_is_not_written_out():
    found = {LIBRARY / file for step in STEPS for file in code_of(step).files}
    for file in (file for file in found if file.suffix == ".py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in (
                "import_module", "importlib.import_module", "__import__",
            ):  # fmt: skip
                raise AssertionError(f"{file}: reading cannot follow this import")
            if isinstance(node, ast.ImportFrom) and node.module == "fmbseg":
                for alias in node.names:
                    module = LIBRARY / alias.name
                    assert module.is_dir() or module.with_suffix(".py").is_file(), file


def test_dvc_stages_have_the_code_and_the_outputs_that_their_steps_read_and_write():
    stages = yaml.safe_load((REPOSITORY / "dvc.yaml").read_text())["stages"]
    assert list(stages) == [*STEPS, "track"]  # which makes no unit
    writes = {step.name: step.writes for step in PLAN}
    for step in PLAN:
        stage = stages[step.name].get("do", stages[step.name])
        deps = stage["deps"]
        assert len(deps) <= 8, step.name
        people = {"fmbseg", "${data.drops}", "${data.corrections}"}
        assert set(deps) - people == {writes[name] for name in step.reads}
        outs = [next(iter(out)).removesuffix("/${item}") for out in stage["outs"]]
        assert outs == [step.writes]
        for file in code_of(step.name).files:
            assert any(Path("fmbseg", file).is_relative_to(dep) for dep in deps), (step.name, file)


def test_what_was_read_of_a_file_is_kept_by_its_bytes_and_a_damaged_cache_is_none(
    tmp_path: Path, library: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    syntax._known.cache_clear()
    first = code("subsample", library)
    (cache,) = (tmp_path / "cache" / "fmbseg").iterdir()
    syntax._known.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(syntax, "_read", lambda *_: pytest.fail("read again"))
        assert code("subsample", library) == first
    path = library / "store" / "coco.py"
    path.write_text(path.read_text().replace("COCO", "coco").replace("1", "2"))
    syntax._known.cache_clear()
    assert code("subsample", library) != first
    cache.write_text('{"cut')
    syntax._known.cache_clear()
    assert code("subsample", copied(tmp_path / "other")) == first
    syntax._known.cache_clear()
