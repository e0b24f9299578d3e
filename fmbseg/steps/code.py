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

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import distribution, requires, version
from pathlib import Path

from fmbseg.steps.syntax import parsed, save
from fmbseg.store.hashes import file_sha

PACKAGE = "fmbseg"
LIBRARY = Path(__file__).parents[1]


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
    save()
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
        path = self._file(module)
        found = parsed(path)
        if not found.decides:
            return
        self.hashes[self._name(path)] = found.sha
        for file in _data_files(path, found.data_files):
            self.hashes[self._name(file)] = file_sha(file)
        for name, part in found.imports:
            self._follow_import(name or "", part)

    def _follow_import(self, module: str, name: str | None) -> None:
        root = module.partition(".")[0]
        if root != PACKAGE:
            self.imported.add(root)
        elif name is None:
            self.follow(module)
        else:
            self._follow_name(module, name)

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
        home, part = parsed(path).handed_on.get(name, (None, None))
        if home is None or not home.startswith(PACKAGE):
            self.follow(module)
        else:
            self._follow_name(home, part or name)

    def _file(self, module: str) -> Path:
        inside = self._library.joinpath(*module.split(".")[1:])
        package = inside / "__init__.py"
        return package if package.is_file() else inside.with_suffix(".py")

    def _name(self, path: Path) -> str:
        return path.relative_to(self._library).as_posix()


def _data_files(path: Path, patterns: Sequence[str]) -> Iterator[Path]:
    """The files that a module declares to open.

    Raises:
        FileNotFoundError: a pattern fits none.
    """
    for pattern in patterns:
        files = [file for file in sorted(path.parent.glob(pattern)) if file.is_file()]
        if not files:
            raise FileNotFoundError(f"{path}: DATA_FILES names {pattern}, found no such file")
        yield from files


@functools.cache
def _distributions() -> dict[str, str]:
    """Top-level module to the package that brings it, of the packages that this one requires."""
    found = {}
    for requirement in requires(PACKAGE) or ():
        if "extra ==" in requirement:
            continue
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        for file in distribution(name).files or ():
            if file.suffix == ".py" and not file.parts[0].endswith((".dist-info", ".data")):
                found[file.parts[0].removesuffix(".py")] = name
    return found
