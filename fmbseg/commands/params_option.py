"""What the option `--params` of several commands means."""

from pathlib import Path
from typing import Any

from fmbseg.params import load_params
from fmbseg.project_files import PARAMS, default_params
from fmbseg.steps.workspace import Workspace


def params_option(given: Path | None, changes: dict[str, Any] | None = None) -> Workspace:
    """The workspace that a command is about: the folder of `--params` with that file's values.

    Without the option it is the current folder, with the defaults where it has no params.yaml.

    Args:
        given: the file.
        changes: dotted key to the value that replaces the file's.

    Raises:
        ParamsError: the file is not there, or cannot be used.
    """
    return Workspace((given or PARAMS).parent, load_params(given or default_params(), changes))
