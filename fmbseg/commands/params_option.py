"""What the option `--params` of several commands means."""

from pathlib import Path

from fmbseg.params import load_params
from fmbseg.project_files import PARAMS, default_params
from fmbseg.steps.workspace import Workspace


def params_option(given: Path | None) -> Workspace:
    """The workspace that a command is about: the folder of `--params` with that file's values.

    Without the option it is the current folder, with the defaults where it has no params.yaml.

    Raises:
        ParamsError: the file is not there, or cannot be used.
    """
    return Workspace((given or PARAMS).parent, load_params(given or default_params()))
