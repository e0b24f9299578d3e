"""Which code a step's outputs depend on: the files that it imports, found by reading them.

The content key of a unit holds a hash of every file of this package that its step imports,
directly or not, and the version of every upstream package that those files import. The files are
read, not run. A hash is over the syntax tree without docstrings: comments, layout and docstrings
change no key.

Three declarations stand in a module beside the code that they are about:

- `DATA_FILES = ("words.txt",)`: files that the module opens, relative to it, `*` allowed. Their
  bytes count like code.
- `DECIDES_OUTPUTS = False`: nothing that the module does changes what a step writes (progress
  lines, for instance). It and what it imports are left out.
- `if TYPE_CHECKING:` as usual: imports below it are for annotations.
"""

import ast
import functools
import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import distribution, requires, version
from pathlib import Path
from typing import Any

from fmbseg.store.files import file_sha

PACKAGE = "fmbseg"
LIBRARY = Path(__file__).parents[1]
DATA_FILES_NAME, DECIDES_NAME = "DATA_FILES", "DECIDES_OUTPUTS"


@dataclass(frozen=True)
class StepCode:
    """What a step's outputs depend on besides inputs and parameters.

    Attributes:
        files: file below the package's folder to its hash.
        packages: upstream package to its version.
    """

    files: dict[str, str]
    packages: dict[str, str]


@functools.cache
def code_of(step: str, library: Path = LIBRARY) -> StepCode:
    """The code of a step: the imports of its module `fmbseg.steps.<step>`, followed to their end.

    Args:
        step: name of the step, and of its module.
        library: folder of the package.

    Raises:
        FileNotFoundError: no such module.
    """
    reader = _Reader(library)
    reader.follow(f"{PACKAGE}.steps.{step}")
    known = _distributions()
    return StepCode(
        dict(sorted(reader.hashes.items())),
        {name: version(name) for name in sorted({known[i] for i in reader.imported & set(known)})},
    )


class _Reader:
    """Follows imports through the files of a package."""

    def __init__(self, library: Path) -> None:
        self._library, self._seen = library, set[str]()
        self.hashes: dict[str, str] = {}
        self.imported: set[str] = set()
        """Names of the upstream modules that are imported, without what follows the first dot."""

    def follow(self, module: str) -> None:
        """Take a module and everything that it imports."""
        if module in self._seen:
            return
        self._seen.add(module)
        parsed = _parse(self._file(module))
        if not parsed.decides:
            return
        self.hashes[self._name(parsed.path)] = parsed.sha
        for path in parsed.data_files:
            self.hashes[self._name(path)] = file_sha(path)
        for found in parsed.imports:
            self._follow_import(found)

    def _follow_import(self, found: "_Import") -> None:
        root = found.module.partition(".")[0]
        if root != PACKAGE:
            self.imported.add(root)
        elif found.name is None:
            self.follow(found.module)
        else:
            self._follow_name(found.module, found.name)

    def _follow_name(self, module: str, name: str) -> None:
        """Take what `from module import name` brings: a module, or the file that defines the name.

        An `__init__.py` that only hands on names is not in between: of `fmbseg.store` a step
        depends on the files that it takes something from.
        """
        path = self._file(module)
        if path.name != "__init__.py":
            self.follow(module)
            return
        inside = path.parent / name
        if inside.with_suffix(".py").is_file() or (inside / "__init__.py").is_file():
            self.follow(f"{module}.{name}")
            return
        home = _parse(path).handed_on.get(name)
        if home is None:
            self.follow(module)
        else:
            self._follow_name(home.module, home.name or name)

    def _file(self, module: str) -> Path:
        inside = self._library.joinpath(*module.split(".")[1:])
        package = inside / "__init__.py"
        return package if package.is_file() else inside.with_suffix(".py")

    def _name(self, path: Path) -> str:
        return path.relative_to(self._library).as_posix()


@dataclass(frozen=True)
class _Import:
    """`import module`, or `from module import name`."""

    module: str
    name: str | None = None


@dataclass(frozen=True)
class _Parsed:
    """One file: its hash, what it imports, and what it declares."""

    path: Path
    sha: str
    imports: tuple[_Import, ...]
    handed_on: dict[str, _Import]
    data_files: tuple[Path, ...]
    decides: bool


@functools.cache
def _parse(path: Path) -> _Parsed:
    tree = ast.parse(path.read_bytes(), str(path))
    declared = dict(_constants(tree))
    imports = tuple(_imports(tree))
    top = [found for node in tree.body for found in _imports_of(node)]
    patterns: Sequence[str] = declared.get(DATA_FILES_NAME, ())
    data = [one for pattern in patterns for one in sorted(path.parent.glob(pattern))]
    missing = [pattern for pattern in patterns if not any(path.parent.glob(pattern))]
    if missing:
        raise FileNotFoundError(f"{path}: {DATA_FILES_NAME} names {missing[0]}, found no such file")
    return _Parsed(
        path,
        _sha(tree),
        imports,
        {alias: found for alias, found in top if found.module.startswith(PACKAGE)},
        tuple(one for one in data if one.is_file()),
        declared.get(DECIDES_NAME, True) is not False,
    )


def _imports(tree: ast.AST) -> Iterator[_Import]:
    """All imports of a file, those inside functions too, but not those for annotations alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and _is_type_checking(node.test):
            continue
        yield from (found for _, found in _imports_of(node))
        yield from _imports(node)


def _imports_of(node: ast.AST) -> Iterator[tuple[str, _Import]]:
    """Name in the file, and what it stands for, of one import statement."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.asname or alias.name, _Import(alias.name)
    elif isinstance(node, ast.ImportFrom):
        if node.level:
            raise ValueError(f"line {node.lineno}: found a relative import; wanted a full name")
        for alias in node.names:
            yield alias.asname or alias.name, _Import(node.module or "", alias.name)


def _is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def _constants(tree: ast.Module) -> Iterator[tuple[str, Any]]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name in (DATA_FILES_NAME, DECIDES_NAME):
                yield name, ast.literal_eval(node.value)


def _sha(tree: ast.Module) -> str:
    """Hash of a syntax tree without docstrings, comments and layout."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = [one for one in node.body if not _is_text(one)]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _is_text(node: ast.stmt) -> bool:
    """Whether a statement is a string and nothing else: a docstring, or one below a constant."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


@functools.cache
def _distributions() -> dict[str, str]:
    """Top-level module to the package that brings it, of the packages that this one requires."""
    found = {}
    for requirement in requires(PACKAGE) or ():
        if "extra ==" in requirement:
            continue
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        found.update(dict.fromkeys(_modules(name), name))
    return found


def _modules(package: str) -> set[str]:
    """Top-level modules of an installed package."""
    files = distribution(package).files or ()
    return {
        file.parts[0].removesuffix(".py")
        for file in files
        if file.suffix == ".py" and not file.parts[0].endswith((".dist-info", ".data"))
    }
