"""Programs that load large libraries do not look for garbage among what stays."""

import os
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

# What is registered first is called last.
PROGRAM = """
import atexit, gc
atexit.register(lambda: print(gc.get_freeze_count() > 1000))
{start}
print(gc.get_threshold()[0])
"""


@pytest.mark.parametrize(
    "start", ["import flows", "from fmbseg.cli import main; main(['init', 'no/such/folder'])"]
)
def test_a_program_searches_rarely_for_garbage_and_not_as_it_ends(start, tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(start=start)], capture_output=True, text=True,
        check=True, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert done.stdout.split()[-2:] == ["50000", "True"]
