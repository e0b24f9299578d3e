from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.export_sources import Exported, export_of
from tests.support.judges import Judge, judges


@pytest.fixture(scope="session")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Judge:
    return judges(tmp_path_factory.getbasetemp() / "judges")


@pytest.fixture
def exported(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Exported]:
    """Exports the images of a source, `hard` where none is named, in a format."""

    def make(kind: str, source: str = "hard") -> Exported:
        return export_of(kind, source, tmp_path, lambda: request.getfixturevalue("small_run"))

    return make
