"""Where a command's trained model comes from: a folder, or a version in MLflow's registry.

The library does not import MLflow: its own program fetches a version, as a person would.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import yaml

from fmbseg.align.settings import DESCRIPTION
from fmbseg.commands.params_option import params_option
from fmbseg.errors import UserError
from fmbseg.params import redact
from fmbseg.project_files import PARAMS

PREFIX = "models:/"
_SQLITE = "sqlite:///"
_VERSION = "registered_model_meta"
"""File that MLflow writes beside a version that it fetched."""


class ModelSource(NamedTuple):
    """A trained model that a command names.

    Attributes:
        folder: the trained one (or a name that is no folder of this machine, as it was given).
        registered: name/version of a model that came out of the registry; None for a folder.
    """

    folder: Path
    registered: str | None


@contextmanager
def model_source(given: str | Path) -> Iterator[ModelSource]:
    """The trained folder that is meant, as long as the block lasts.

    Args:
        given: a folder, or `models:/<name>@<alias>`, `models:/<name>/<version>`.

    Raises:
        UserError: no such version, no registry here, or MLflow is not installed.
    """
    if not str(given).startswith(PREFIX):
        yield ModelSource(Path(given), None)
        return
    with tempfile.TemporaryDirectory(prefix="fmbseg-registry-") as place:
        yield _fetched(str(given), Path(place))


def _fetched(name: str, place: Path) -> ModelSource:
    if find_spec("mlflow") is None:
        raise UserError(f"{name}: found no MLflow here; pip install 'fmbseg[pipeline]'")
    uri = registry_uri()
    found = subprocess.run(
        [sys.executable, "-m", "mlflow", "artifacts", "download", "--artifact-uri", name,
         "--dst-path", str(place)],
        capture_output=True, text=True, check=False,
        env={**os.environ, "MLFLOW_TRACKING_URI": uri, "MLFLOW_REGISTRY_URI": uri,
             "MLFLOW_DISABLE_TELEMETRY": "true"},
    )  # fmt: skip
    if found.returncode != 0:
        said = [line for line in found.stderr.splitlines() if line.strip()]
        why = redact(said[-1].strip()[:300]) if said else "MLflow does not say why"
        raise UserError(f"{name}: not fetched from {redact(uri)}: {why}")
    trained = next(place.rglob(DESCRIPTION), None)
    if trained is None:
        raise UserError(f"{name}: holds no {DESCRIPTION}; wanted a model that fmbseg registered")
    told = next(place.rglob(_VERSION), None)
    version = yaml.safe_load(told.read_text()) if told else {}
    registered = name.removeprefix(PREFIX)
    if version:
        registered = f"{version['model_name']}/{version['model_version']}"
    return ModelSource(trained.parent, registered)


def registry_uri() -> str:
    """Address of the MLflow that is meant here.

    FMBSEG_TRACKING_URI goes first, then `tracking.uri` of the params.yaml here, then what MLflow
    itself goes by. A database file without a folder is looked for here and, for a workspace in
    `runs/`, in its checkout.

    Raises:
        UserError: there is no such database file; MLflow would make an empty one.
    """
    uri = os.environ.get("FMBSEG_TRACKING_URI")
    if not uri and (Path(PARAMS).is_file() or "MLFLOW_TRACKING_URI" not in os.environ):
        uri = params_option(None).params.tracking.uri
    uri = uri or os.environ["MLFLOW_TRACKING_URI"]
    if not uri.startswith(_SQLITE):
        return uri
    file, here = Path(uri.removeprefix(_SQLITE)), Path.cwd()
    places = [here, *([here.parents[1]] if here.parent.name == "runs" else [])]
    for one in places:
        if (one / file).is_file():
            return f"{_SQLITE}{one / file}"
    raise UserError(
        f"found no MLflow database {places[0] / file}; go to the folder of the run, or name the "
        "registry in FMBSEG_TRACKING_URI"
    )
