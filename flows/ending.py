"""What `make run` says at its end: where everything lies, and what to do next."""

import shlex

from fmbseg.params import redact
from fmbseg.steps import ending as plain
from fmbseg.steps.ending import shortest
from fmbseg.steps.workspace import Workspace


def ending(workspace: Workspace) -> str:
    """Files and formats of a finished run, and three commands that use them."""
    return plain.ending(workspace, [_tracking(workspace), _again(workspace)])


def _tracking(workspace: Workspace) -> tuple[str, str]:
    uri = workspace.params.tracking.uri
    if uri != "sqlite:///mlflow.db":
        return f"open MLflow at {redact(uri)}", "losses, figures, pictures, models"
    return "make mlflow", "losses, figures, pictures, models at http://127.0.0.1:5000"


def _again(workspace: Workspace) -> tuple[str, str]:
    if workspace.data_set == "miniature":
        own = "make run IMAGES=path/to/images CLASSES=path/to/classes.txt"
        return own, "your own photographs, in a folder below runs/"
    root = workspace.root
    what = f"after new images, or edits of {shortest(root / 'params.yaml')}: only what changed"
    return f"make run WORKSPACE={shlex.quote(shortest(root))}", what
