"""`fmbseg export`: the labels of a workspace in formats of other tools; docs/export.md."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fmbseg.commands.answer import Answer
from fmbseg.errors import UserError
from fmbseg.params import load_params
from fmbseg.steps import export as step
from fmbseg.steps.corrections import CORRECTIONS
from fmbseg.steps.plan import run_step
from fmbseg.steps.workspace import Workspace, params_file
from fmbseg.store import read_json
from fmbseg.store.names import printable

SETTINGS = {
    "source": "export.source", "model": "export.model", "val_fraction": "export.val_fraction",
    "val_list": "export.val_list", "min_confidence": "export.min_confidence",
    "min_area": "export.min_area_fraction", "keep": "export.classes",
    "unlabelled": "export.unlabelled", "place": "export.images",
    "tolerance": "export.tolerance_px", "corrections": "export.corrections",
}  # fmt: skip
"""Option of the command line to the parameter that it stands for."""
_TOLD = ("format", "images", "images_without_a_region", "regions", "labelled_fraction", "told")


def export(arguments: argparse.Namespace) -> Answer:
    """Write one folder a format, and say what is in it."""
    root: Path = arguments.workspace
    if not params_file(root).is_file():
        raise UserError(
            f"{root}: found no params.yaml there; wanted the folder of a run, such as "
            "runs/<folder of images>; `fmbseg label` makes one and exports at once"
        )
    workspace = Workspace(root, load_params(params_file(root), overrides(arguments)))
    run_step(workspace, "download", only=CORRECTIONS)  # those accepted since the last run
    formats = arguments.format or workspace.params.export.formats
    if not formats:
        raise UserError("--format: found none; wanted one or more, see docs/export.md")
    out: Path | None = arguments.out
    exports = []
    for name in formats:
        folder = out if out and len(formats) == 1 else (out or workspace.exports) / name
        exports.append({"folder": folder, **for_programs(write(workspace, name, folder))})
    return Answer({"workspace": root, "exports": exports})


def for_programs(facts: Mapping[str, Any]) -> dict[str, Any]:
    """What `--json` says of an export; its export.json has more."""
    return {name: facts[name] for name in _TOLD} | {"left_out": facts["quarantined"]}


def overrides(arguments: argparse.Namespace) -> dict[str, Any]:
    """Dotted key to value of what the command line sets in place of params.yaml."""
    given = {key: getattr(arguments, option) for option, key in SETTINGS.items()}
    return {key: value for key, value in given.items() if value is not None}


def write(workspace: Workspace, name: str, folder: Path) -> Mapping[str, Any]:
    """Export in one format into a folder and say what is in it; returns its export.json."""
    made = step.run_into(workspace, name, folder)
    facts: dict[str, Any] = read_json(folder / step.FACTS)
    print(printable(f"{folder}: {name}{'' if made else ', up to date'}"))
    for what, value in {**step.words(facts), **facts["told"]}.items():
        print(printable(f"  {what}: {value}"))
    for entry in facts["quarantined"]:
        print(printable(f"  left out {entry['image']}: {entry['reason']}"))
    return facts
