"""Which registered model a workspace's versions belong to: one for each data set."""

from mlflow.exceptions import MlflowException

from fmbseg.steps.workspace import Workspace
from fmbseg.store import sha_of
from tasks.tracking.mlflow_client.store import PatientClient, outside_experiment

AUTO = "auto"
"""The value of `tracking.registered_model` that means a name derived from the images."""
IMAGES = "images"
"""Tag of a registered model: which images its versions were trained on."""
_ABOUT = (
    "Open-vocabulary segmenter, trained without labels on the images of {images}. The alias "
    "`champion` is the version to serve: the one with the best mIoU, or the newest as long as no "
    "two can be compared."
)


def registered_model(client: PatientClient, workspace: Workspace) -> str:
    """The name of params.yaml; with `auto` it is `fmbseg-<name of the folder of images>`.

    A name that another folder of images took first is followed by a hash of this one's path.
    """
    named = workspace.params.tracking.registered_model
    if named != AUTO:
        return named
    name, images = f"fmbseg-{workspace.name}", images_folder(workspace)
    shipped = workspace.data_set == "folder" and workspace.name == "miniature"
    if not shipped and (_images_of(client, name) or images) == images:
        return name
    return f"{name}-{sha_of([images])[:6]}"


def register(client: PatientClient, workspace: Workspace) -> str:
    """Make the registered model where there is none yet.

    Returns:
        Its name.
    """
    name, images = registered_model(client, workspace), images_folder(workspace)
    try:
        client.create_registered_model(
            name, tags={IMAGES: images}, description=_ABOUT.format(images=images)
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        if _images_of(client, name) is None:  # made by hand
            client.set_registered_model_tag(name, IMAGES, images)
    if registered_model(client, workspace) == name:
        return name
    return register(client, workspace)  # another folder of that name was faster


def images_folder(workspace: Workspace) -> str:
    """`miniature`, or where the images lie; an experiment's copy of the workspace says the same."""
    if workspace.data_set == "miniature":
        return workspace.data_set
    return str(outside_experiment(workspace.images_root()))


def _images_of(client: PatientClient, name: str) -> str | None:
    try:
        found = client.get_registered_model(name).tags.get(IMAGES)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return None
        raise
    return None if found is None else str(found)
