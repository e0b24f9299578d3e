"""The trained segmenter as an MLflow model, in the run and in the registry."""

import contextlib
import json
import re
import shutil
import tempfile
from importlib.metadata import requires as package_requires
from importlib.metadata import version as package_version
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pandas as pd  # type: ignore[import-untyped]
from mlflow.entities import LoggedModelOutput
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from PIL import Image

from fmbseg.align.settings import DESCRIPTION, WEIGHTS
from fmbseg.steps.workspace import Workspace
from fmbseg.store import encode_image, file_sha, read_json, sha_of
from fmbseg.vocabulary import Vocabulary
from tasks.tracking.facts import ModelExport, exports_of, flat_params, unit_key
from tasks.tracking.mlflow_client.registry import register
from tasks.tracking.mlflow_client.runs import NOTE
from tasks.tracking.mlflow_client.store import RetryingClient

ARTIFACT = "segmenter"
CARD = "MODEL_CARD.md"
"""Name of the model card among a model's files."""
_SHOWN_PARAMS = ("seed", "models.", "train.", "subsample.", "pseudo_masks.")
_CODE = Path(__file__).parent / "segmenter_model.py"


def log_model(client: RetryingClient, workspace: Workspace, experiment: str, run: str) -> Any:
    """Log the trained folder as a pyfunc model of the run and register it.

    The same trained unit with the same code is registered once: a run with an old model points to
    its version.

    Returns:
        MLflow's model version.
    """
    name, folder = register(client, workspace), workspace.train
    identity = [unit_key(folder), file_sha(folder / WEIGHTS), file_sha(_CODE)]
    model_key = sha_of(identity)[:16]
    known = client.search_model_versions(f"name = '{name}' and tags.model_key = '{model_key}'")
    if known:
        version = max(known, key=lambda found: int(found.version))
        outputs = client.get_run(run).outputs
        mine = [output.model_id for output in outputs.model_outputs] if outputs else []
        if model_id(version) not in mine:
            client.log_outputs(run, [LoggedModelOutput(model_id(version), step=0)])
        return version
    logged = _log_artifact(client, workspace, experiment, run, name)
    made = client.create_model_version(
        name,
        source=client.get_logged_model(logged).artifact_location,
        run_id=run,
        model_id=logged,
        tags={
            "model_key": model_key,
            "model_id": logged,
            "train_key": identity[0],
            "weights_sha": identity[1],
        },
    )
    known_as = json.dumps([{"name": name, "version": int(made.version)}])
    client.set_logged_model_tags(logged, {"mlflow.modelVersions": known_as})  # its page says so
    return made


def model_id(version: Any) -> str:
    """Id of the logged model behind a version; MLflow's own field is empty in a database store."""
    return str(version.tags["model_id"])


def log_exports(client: RetryingClient, workspace: Workspace, version: Any) -> None:
    """Log exports (`fmbseg export-model`) beside the files of their model, each once.

    As they are: `export/<folder>/` of the model.

    Args:
        client: of the store.
        workspace: whose exports are logged; see `exports_of`.
        version: of the workspace's own model. Exports of another one go to its newest version
            here, and nowhere where there is none.
    """
    for export in exports_of(workspace):
        of = version
        if export.weights_sha != version.tags["weights_sha"]:
            others = client.search_model_versions(f"tags.weights_sha = '{export.weights_sha}'")
            of = max(others, key=lambda found: int(found.version), default=None)
        if of is not None:
            _log_export(client, export, client.get_logged_model(model_id(of)))


def _log_export(client: RetryingClient, export: ModelExport, logged: Any) -> None:
    tag, key = f"key.export.{export.name}"[:250], unit_key(export.folder)
    if logged.tags.get(tag) == key:
        return
    for file in sorted(path for path in export.folder.rglob("*") if path.is_file()):
        inside = file.relative_to(export.folder).parent.as_posix()
        place = f"export/{export.name}/{inside}".removesuffix("/.")
        client.log_model_artifact(logged.model_id, str(file), place)
    client.set_logged_model_tags(logged.model_id, {tag: key})


def _log_artifact(
    client: RetryingClient, workspace: Workspace, experiment: str, run: str, name: str
) -> str:
    """Log the model's files; the id of MLflow's logged model."""
    from tasks.tracking.model_card import cut_card, model_card  # brings what describes models

    described, params = model_card(workspace, name), flat_params(workspace)
    logged = client.create_logged_model(
        experiment, name=ARTIFACT, source_run_id=run, model_type="semantic segmentation",
        tags={NOTE: cut_card(described)},
        params={name: params[name] for name in params if name.startswith(_SHOWN_PARAMS)},
    )  # fmt: skip
    try:
        _save(client, workspace, run, logged, described)
    except BaseException:
        with contextlib.suppress(Exception):
            client.delete_logged_model(logged.model_id)
        raise
    client.log_outputs(run, [LoggedModelOutput(logged.model_id, step=0)])
    return str(logged.model_id)


def _save(
    client: RetryingClient, workspace: Workspace, run: str, logged: Any, described: str
) -> None:
    facts = Model(
        artifact_path=logged.artifact_location,
        run_id=run,
        model_uuid=logged.model_id,
        model_id=logged.model_id,
    )
    with tempfile.TemporaryDirectory() as temporary:
        trained = Path(temporary) / "train"  # a path MLflow does not take for a URI
        shutil.copytree(workspace.train, trained)
        mlflow.pyfunc.save_model(
            path=str(Path(temporary) / "model"),
            python_model=str(_CODE),
            artifacts={ARTIFACT: str(trained)},
            signature=_signature(trained),
            input_example=_example(),
            pip_requirements=_requirements(),
            mlflow_model=facts,
        )
        (Path(temporary) / "model" / CARD).write_text(described)
        client.log_model_artifacts(logged.model_id, str(Path(temporary) / "model"))
    client.finalize_logged_model(logged.model_id, "READY")


def _signature(folder: Path) -> ModelSignature:
    described = read_json(folder / DESCRIPTION)
    others = tuple(tuple(names) for names in described.get("synonyms", ()))
    classes = list(Vocabulary(tuple(described["trained_classes"]), others).lines())
    return ModelSignature(
        inputs=Schema([ColSpec(DataType.binary, "image")]),
        outputs=Schema([ColSpec(DataType.string)]),  # of the format png
        params=ParamSchema([
            ParamSpec("classes", DataType.string, classes, shape=(-1,)),
            ParamSpec("background", DataType.string, [], shape=(-1,)),
            ParamSpec("min_similarity", DataType.double, -1.0),
            ParamSpec("format", DataType.string, "png"),
        ]),
    )  # fmt: skip


def _requirements() -> list[str]:
    """What fmbseg itself needs, at the versions in use; MLflow would load the model to find out.

    fmbseg is not among them: no index is known to hold it.
    """
    own = [r for r in package_requires("fmbseg") or [] if "extra ==" not in r]
    names = [re.split(r"[^\w.-]", requirement, maxsplit=1)[0] for requirement in own]
    return [f"{name}=={package_version(name)}" for name in sorted({*names, "mlflow", "pandas"})]


def _example() -> pd.DataFrame:
    """A picture that shows what a request looks like, and nothing else."""
    ramp = np.linspace(0, 255, 64 * 48 * 3).astype(np.uint8).reshape(48, 64, 3)
    return pd.DataFrame({"image": [encode_image(Image.fromarray(ramp))]})
