"""Execute the notebooks of docs/notebooks again, from nothing, and store what they show.

`python -m scripts.make_notebooks [NAME ...]` wants `pip install 'fmbseg[notebooks]'`. Each notebook
runs in an empty folder of its own. What it stores is refused where it names this machine or has
more than a megabyte.
"""

import argparse
import os
import platform
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

NOTEBOOKS = Path(__file__).parents[1] / "docs" / "notebooks"
MAX_BYTES = 1_000_000
_CELL_S = 600
_PICTURE = re.compile(r"[\w+/=\\]{200,}")
"""Base64, in which any short word may stand by chance."""


def main() -> int:
    """Execute those named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="such as first_look; default: all")
    names = parser.parse_args().names or sorted(path.stem for path in NOTEBOOKS.glob("*.ipynb"))
    import nbformat

    for name in names:
        path, began = NOTEBOOKS / f"{name}.ipynb", time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="notebook-") as folder:
            notebook = executed(path, Path(folder))
        require_clean(notebook, path.name)
        nbformat.write(notebook, path)
        size = path.stat().st_size
        print(f"{path.name}: {time.perf_counter() - began:.0f} s, {size:,} bytes", flush=True)
    return 0


def executed(path: Path, folder: Path) -> Any:
    """A notebook after all its cells ran in an empty folder; nothing is written back.

    Args:
        path: the notebook.
        folder: where it runs.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    here = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "TQDM_DISABLE": "1",  # bars of a terminal are no text to store
        "IPYTHONDIR": str(folder / ".ipython"), "JUPYTER_RUNTIME_DIR": str(folder / ".jupyter"),
    }  # fmt: skip
    resources = {"metadata": {"path": str(folder)}}
    client = NotebookClient(
        notebook, timeout=_CELL_S, kernel_name="python3", resources=resources, record_timing=False,
        coalesce_streams=True,
    )  # fmt: skip
    client.execute(env={**os.environ, **here})
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output.output_type == "stream":
                output.text = output.text.replace("\r\n", "\n")
            elif "image/png" in output.get("data", {}):
                output.data.pop("image/jpeg", None)  # the same once more
    return notebook


def require_clean(notebook: Any, name: str) -> None:
    """Refuse outputs that name this machine or its folders, errors, and very large ones.

    Args:
        notebook: executed.
        name: for the message.

    Raises:
        ValueError: with the cell and what is in it.
    """
    own = {platform.node(), str(Path.home()), tempfile.gettempdir(), str(NOTEBOOKS.parents[1])}
    own = {word for word in own if len(word) > 3}
    outputs = [(place, str(cell.get("outputs", ""))) for place, cell in enumerate(notebook.cells)]
    for place, whole in outputs:
        text = _PICTURE.sub("", whole)
        found = [word for word in sorted(own) if word in text]
        if found:
            raise ValueError(f"{name}: cell {place} shows {found[0]!r}; outputs name no machine")
        if "'stderr'" in text or "Traceback" in text:
            raise ValueError(f"{name}: cell {place} shows an error or a warning")
    size = sum(len(text) for _, text in outputs)
    if size > MAX_BYTES:
        raise ValueError(f"{name}: found {size:,} characters of output; wanted {MAX_BYTES:,}")


if __name__ == "__main__":
    raise SystemExit(main())
