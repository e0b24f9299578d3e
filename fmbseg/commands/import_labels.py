"""`fmbseg import`: what people edited in another tool, back as corrections; docs/import.md."""

import argparse
from getpass import getuser
from pathlib import Path

from fmbseg.commands.answer import Answer
from fmbseg.errors import PARTIAL, UserError
from fmbseg.export.record import RECORD, ExportRecord
from fmbseg.importing.files import Files
from fmbseg.importing.plan import Plan, Target, Wishes, plan_import
from fmbseg.importing.saving import IMPORT_LOCK, finish, save_all
from fmbseg.steps.workspace import Workspace, params_file
from fmbseg.store.locks import FileLock
from fmbseg.store.names import printable
from fmbseg.vocabulary import read_classes

_SHOWN = 20
"""So many images of each list are named."""


def import_labels(arguments: argparse.Namespace) -> Answer:
    """Read and check everything, then write all corrections, and say what they were."""
    root, path = arguments.workspace, arguments.path
    if not params_file(root).is_file():
        raise UserError(
            f"{root}: found no params.yaml there; wanted the folder of the run that was exported, "
            "such as runs/<folder of images>; name it with --workspace"
        )
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    workspace = Workspace.open(root)
    record = ExportRecord(_export_folder(arguments, workspace))
    names = read_classes(workspace.classes_path()).names
    folder = workspace.corrections
    target = Target(folder, workspace.listing().images, names)
    wishes = Wishes(
        arguments.by or _login_name(), arguments.format, arguments.accept,
        arguments.on_conflict == "overwrite",
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / IMPORT_LOCK):
        for image in [] if arguments.dry_run else finish(folder):
            print(printable(f"{image}: corrected elsewhere while an import was cut; left alone"))
        plan = plan_import(Files(path), record, target, wishes)
        if plan.refused and not arguments.skip_refused:
            _say(plan, record)
            raise UserError(
                f"{path}: {len(plan.refused)} images are refused, so nothing was imported; put "
                "them right, or import the others with --skip-refused"
            )
        if plan.corrections and not arguments.dry_run:
            for image in save_all(folder, record.sha, list(plan.corrections.values())):
                plan.conflicts[image] = "corrected elsewhere just now"
                del plan.corrections[image]
    _say(plan, record)
    done = "would be saved in" if arguments.dry_run else "saved in"
    print(printable(f"{len(plan.corrections)} corrections {done} {folder}"))
    if plan.corrections and wishes.accept != "none":
        print("next: run again (`make run`, `dvc repro` or `fmbseg run`), which trains on them")
    facts = {
        "read": plan.read, "unchanged": plan.same, "imported_before": plan.known,
        "changes": dict(plan.changes), "conflicts": plan.conflicts, "refused": plan.refused,
        "saved": [] if arguments.dry_run else list(plan.corrections), "corrections": folder,
        "dry_run": arguments.dry_run,
    }  # fmt: skip
    return Answer(facts, PARTIAL if plan.conflicts else 0)


def _login_name() -> str:
    try:
        return getuser()
    except (OSError, KeyError):  # a container's user may have none
        raise UserError("--by: found no login name; wanted the name of who edited") from None


def _export_folder(arguments: argparse.Namespace, workspace: Workspace) -> Path:
    """Where the export lies that was edited."""
    path: Path = arguments.path
    beside = path if path.is_dir() else path.parent
    if arguments.export is not None:
        return Path(arguments.export)
    return beside if (beside / RECORD).is_file() else workspace.exports / arguments.format


def _say(plan: Plan, record: ExportRecord) -> None:
    changed = len(plan.corrections)
    parts = {
        "unchanged": plan.same, "changed": changed, "imported before": plan.known,
        "in conflict": len(plan.conflicts), "refused": len(plan.refused),
    }  # fmt: skip
    words = ", ".join(f"{count:,} {what}" for what, count in parts.items() if count)
    print(f"{plan.read:,} of {len(record):,} exported images read: {words or 'nothing'}")
    if plan.changes:
        print(f"  masks: {', '.join(f'{n:,} {what}' for what, n in plan.changes.items())}")
    lists = {"conflict, left alone (--on-conflict overwrite takes it)": plan.conflicts}
    for title, images in {**lists, "refused": plan.refused}.items():
        for image, why in list(images.items())[:_SHOWN]:
            print(printable(f"  {title}: {image}: {why}"))
        if len(images) > _SHOWN:
            print(f"  {title}: and {len(images) - _SHOWN:,} more")
