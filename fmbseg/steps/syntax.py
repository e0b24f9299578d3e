"""What one Python file holds, read and not run: a hash of its code, its imports, its declarations.

Reading a file's syntax takes milliseconds, a hundred files most of a second, in every process that
looks at a unit. So what was read is kept in the user's cache folder, by the SHA-256 of the file's
bytes; losing it costs that time alone.
"""

import ast
import contextlib
import functools
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fmbseg.store.files import write_bytes

DATA_FILES_NAME, DECIDES_NAME = "DATA_FILES", "DECIDES_OUTPUTS"
_FORMAT = 1
_fresh: dict[str, "Parsed"] = {}
"""What this process read and the cache does not hold yet."""


@dataclass(frozen=True)
class Parsed:
    """One file.

    Attributes:
        sha: hash of its syntax tree without docstrings, comments and layout.
        imports: (module, name or None) of each import but those for annotations alone.
        handed_on: name that stands at the top of the file to what it was imported from.
        data_files: patterns of the files that it declares to open.
        decides: whether it declares nothing or that its code changes outputs.
    """

    sha: str
    imports: Sequence[Sequence[str | None]]
    handed_on: dict[str, Sequence[str | None]]
    data_files: Sequence[str]
    decides: bool


@functools.cache
def parsed(path: Path) -> Parsed:
    """What a file holds; read once a process.

    Raises:
        ValueError: it has a relative import.
    """
    data = path.read_bytes()
    name = hashlib.sha256(data).hexdigest()
    known = _known().get(name)
    if known is not None:
        return Parsed(**known)
    found = _read(data, path)
    _fresh[name] = found
    return found


def save() -> None:
    """Write what was read anew to the cache; where that cannot be, nothing happens."""
    if _fresh:
        kept = _known() | {name: asdict(one) for name, one in _fresh.items()}
        with contextlib.suppress(OSError):
            write_bytes(_cache(), json.dumps(kept).encode(), flush=False)
        _fresh.clear()


def _cache() -> Path:
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return folder / "fmbseg" / f"syntax-{_FORMAT}-{version}.json"


@functools.cache
def _known() -> dict[str, dict[str, Any]]:
    try:
        return dict(json.loads(_cache().read_bytes()))
    except (OSError, ValueError, TypeError, RuntimeError):  # none yet, damaged, no home folder
        return {}


def _read(data: bytes, path: Path) -> Parsed:
    tree = ast.parse(data, str(path))
    declared = dict(_constants(tree))
    imports = [found for _, found in _imports(tree)]
    handed_on = dict(one for node in tree.body for one in _imports_of(node))
    return Parsed(
        _sha(tree), imports, handed_on, tuple(declared.get(DATA_FILES_NAME, ())),
        declared.get(DECIDES_NAME, True) is not False,
    )  # fmt: skip


def _imports(tree: ast.AST) -> Iterator[tuple[str, Sequence[str | None]]]:
    """All imports of a file, those inside functions too, but not those for annotations alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and _is_type_checking(node.test):
            continue
        yield from _imports_of(node)
        yield from _imports(node)


def _imports_of(node: ast.AST) -> Iterator[tuple[str, Sequence[str | None]]]:
    """Name in the file, and (module, name) that it stands for, of one import statement."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            yield alias.asname or alias.name, (alias.name, None)
    elif isinstance(node, ast.ImportFrom):
        if node.level:
            raise ValueError(f"line {node.lineno}: found a relative import; wanted a full name")
        for alias in node.names:
            yield alias.asname or alias.name, (node.module or "", alias.name)


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
