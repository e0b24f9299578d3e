"""A program under watch: every file that it opens is written down (Python's audit events)."""

from pathlib import Path

from tests.conftest import REPOSITORY

_WATCHED = """
import os, runpy, sys
log = os.open({log!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
def told(event, arguments):
    if event in ("open", "os.listdir", "os.scandir", "glob.glob", "shutil.copyfile"):
        os.write(log, (ascii(arguments[0]) + chr(10)).encode())
sys.addaudithook(told)
"""


def watch(folder: Path) -> tuple[dict[str, str], Path]:
    """What a process is started with so that its opens, and its children's, are written down.

    Args:
        folder: empty; a `sitecustomize.py` goes there, which Python imports as it starts.

    Returns:
        The environment variable to add, and the file with a line an open.
    """
    log = folder / "opened.txt"
    (folder / "sitecustomize.py").write_text(_WATCHED.format(log=str(log)))
    log.touch()
    return {"PYTHONPATH": f"{folder}:{REPOSITORY}"}, log
