"""Check that the device and the weights that a run needs are on this machine."""

from fmbseg.models.device import resolve_device
from fmbseg.models.status import missing_weights
from fmbseg.steps import plan
from fmbseg.steps.foundation_models import overrides_of
from fmbseg.steps.workspace import Workspace


class NotReadyError(RuntimeError):
    """The device or weights are not on this machine."""


def not_ready(workspace: Workspace) -> str | None:
    """One line on what this machine lacks; None when nothing is lacking, or needed.

    A workspace whose outputs are all up to date, such as one that DVC pulled, needs neither; so
    that is looked at first, which needs no model library.
    """
    return None if plan.problem(workspace) is None else missing_for(workspace)


def missing_for(workspace: Workspace) -> str | None:
    """One line on what this machine lacks of what the models need; None when nothing is lacking."""
    section = workspace.params.models
    try:
        resolve_device(workspace.params.device)
        return missing_weights(section.profile, overrides_of(section))
    except ValueError as error:
        return str(error)


def require_ready(workspace: Workspace) -> None:
    """Raise what `not_ready` says.

    Raises:
        NotReadyError: the device or weights are not on this machine.
    """
    lacking = not_ready(workspace)
    if lacking is not None:
        raise NotReadyError(lacking)
