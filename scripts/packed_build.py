"""A step of the wheel's build: flows/, tasks/, params.yaml, ... go into `fmbseg/project/`."""

import runpy
from pathlib import Path

from setuptools.command.build_py import build_py


class PackedBuild(build_py):  # type: ignore[misc]
    """Copies what `fmbseg init` writes into the wheel; an editable install reads the checkout."""

    def run(self) -> None:
        """Build as usual, then copy."""
        super().run()
        if not self.editable_mode:
            for name in _packed():
                target = Path(self.build_lib) / "fmbseg" / "project" / name
                target.parent.mkdir(parents=True, exist_ok=True)
                self.copy_file(name, str(target))

    def get_source_files(self) -> list[str]:
        """What a source distribution needs for this."""
        return [*super().get_source_files(), *_packed(), "scripts/packed_build.py"]


def _packed() -> list[str]:
    shared = runpy.run_path("fmbseg/project_files.py")
    files: list[str] = shared["packed_files"](Path())
    return files
