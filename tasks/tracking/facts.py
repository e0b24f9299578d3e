"""What a run is: its units, parameters, tags and images, read from the files of the steps."""

import contextlib
import json
import subprocess
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fmbseg.align.settings import WEIGHTS
from fmbseg.params_yaml import flatten
from fmbseg.steps import evaluate
from fmbseg.steps.code import code_of
from fmbseg.steps.corrections import CORRECTIONS, Corrections, held_out_inputs
from fmbseg.steps.export_model import exports_in
from fmbseg.steps.plan import PLAN
from fmbseg.steps.scoring import IMAGE_SCORES
from fmbseg.steps.workspace import Listing, Workspace
from fmbseg.store import MANIFEST, StoreError, file_sha, read_json, sha_of
from fmbseg.store.names import printable

_CHECKOUT = Path(__file__).parents[2]
UNITS = "key.units"
"""Tag of a run: unit to the beginning of its key, as JSON."""
_LONGEST_METRIC = 200
"""MLflow takes 250 characters, a few of which go before the name."""


@dataclass(frozen=True)
class Result:
    """One method's figures on one data set.

    Attributes:
        folder: of the evaluate step.
        figures: its metrics.json.
        key: of its unit.
    """

    folder: Path
    figures: dict[str, Any]
    key: str

    @property
    def name(self) -> str:
        """`<method>.<data set>`."""
        return f"{self.figures['method']}.{self.figures['data_set']}"


@dataclass(frozen=True)
class ModelExport:
    """A folder that `fmbseg export-model` made.

    Attributes:
        name: of the folder; longer where several have one name.
        folder: where it lies.
        weights_sha: of the head that was exported.
    """

    name: str
    folder: Path
    weights_sha: str


@dataclass(frozen=True)
class RunLinks:
    """Where a browser shows a run and its report.

    Attributes:
        run: address of the run; None where the store has no pages that are known here.
        report: address of the copy of the report that the run holds; None likewise.
        first: command that has to run before they answer; empty where a server is up.
    """

    run: str | None
    report: str | None
    first: str


def results(workspace: Workspace) -> list[Result]:
    """The methods' figures; none without labels."""
    folders = [workspace.evaluate / unit for unit in evaluate.scored(workspace)]
    return [Result(f, dict(read_json(f / "metrics.json")), unit_key(f)) for f in folders]


def scored_contents(workspace: Workspace, result: Result) -> str:
    """Digest of what a method was scored on, where that is the user's own: a folder, corrections.

    It goes by contents: those of the scored images, of their labels and of the class file. Empty
    for every other data set, whose name says it.
    """
    if result.figures["data_set"] == CORRECTIONS:
        return sha_of(held_out_inputs(workspace))[:8]
    if result.figures["data_set"] != "folder":
        return ""
    data, images = workspace.params.data, workspace.listing().images
    names = [one["image"] for one in read_json(result.folder / IMAGE_SCORES)]
    scored = {
        "images": {name: images.get(name) for name in names},
        "labels": Listing.scan(Path(str(data.labels))).images,
        "ignore_label": data.ignore_label,
        "classes": file_sha(workspace.classes_path()),
    }
    return sha_of(scored)[:8]


def exports_of(workspace: Workspace) -> list[ModelExport]:
    """What `fmbseg export-model` made in `exports/`, or elsewhere in the name of the workspace."""
    found: dict[str, ModelExport] = {}
    for folder in exports_in(workspace.root):
        with contextlib.suppress(StoreError, KeyError, TypeError):  # gone, or somebody else's
            sha = str(read_json(folder / MANIFEST)["parts"]["inputs"][WEIGHTS])
            name = folder.name
            if name in found:
                name = f"{name}-{sha_of(str(folder))[:6]}"
            found[name] = ModelExport(name, folder, sha)
    return list(found.values())


def unit_key(folder: Path) -> str:
    """The key in a unit's manifest."""
    return str(read_json(folder / MANIFEST)["key"])


def unit_keys(workspace: Workspace) -> dict[str, str]:
    """Folder to key of every unit whose output a run holds."""
    shown = {"report", "export"}  # pages and copies of what other units hold
    folders = [
        unit.folder for step in PLAN if step.name not in shown for unit in step.units_in(workspace)
    ]
    return {f.relative_to(workspace.root).as_posix(): unit_key(f) for f in folders}


def fingerprint(workspace: Workspace) -> str:
    """Digest of the training images' names and contents; 16 hexadecimal digits."""
    return sha_of(workspace.listing().images)[:16]


def images_folder(workspace: Workspace) -> str:
    """`miniature`, or where the images lie; an experiment's copy of the workspace says the same."""
    if workspace.data_set == "miniature":
        return workspace.data_set
    return str(outside_experiment(workspace.images_root()))


def outside_experiment(path: Path) -> Path:
    """The same file or folder in the checkout that an experiment's copy was made from.

    `dvc exp run --temp` and `--queue` run in copies below `.dvc/tmp/exps`, which DVC deletes.
    Where DVC's repository is a folder of Git's, the copy is of all of Git's.
    """
    parts = path.resolve().parts
    for at in range(len(parts) - 3):
        if parts[at : at + 3] == (".dvc", "tmp", "exps"):
            repository, inside = Path(*parts[:at]), Path(*parts[at + 4 :])
            outer = [repository, *repository.parents]
            return next((one / inside for one in outer if (one / inside).exists()), repository)
    return path.resolve()


def flat_params(workspace: Workspace) -> dict[str, str]:
    """Dotted key to value, fit to be shown."""
    return {key: one_line(value, 6000) for key, value in flatten(workspace.params.public()).items()}


def tags(workspace: Workspace, keys: dict[str, str]) -> dict[str, str]:
    """What the run was made from; hashes stand behind the prefix `key.`, after all others.

    The many shards of stage 1 count as one in `key.units`; units.json has all.
    """
    shards = {name: key for name, key in keys.items() if name.startswith("data/pseudo_masks/")}
    units = {name: key[:12] for name, key in keys.items() if name not in shards}
    units["data/pseudo_masks"] = sha_of(shards)[:12]
    lock = workspace.root / "dvc.lock"
    commit = _git("rev-parse", "HEAD") or "none"
    edited = len(_git("status", "--porcelain", "-uno").splitlines())
    packages = {"fmbseg": version("fmbseg")}
    packages |= {name: v for step in PLAN for name, v in code_of(step.name).packages.items()}
    listing = read_json(workspace.download / "listing.json")
    people = Corrections.of(workspace).contents
    return {
        "code": f"{commit[:7]}{f' and {edited} changed files' if edited else ''}",
        "packages": ", ".join(f"{name} {found}" for name, found in packages.items()),
        "images": str(len(workspace.listing().images)),
        "key.git_commit": commit,
        "key.dvc_lock": file_sha(lock) if lock.is_file() else "none",
        "key.images": fingerprint(workspace),
        **{f"key.{name}": listing[name] for name in ("classes", "labels") if listing.get(name)},
        **({"corrections": str(len(people)), "key.corrections": sha_of(people)} if people else {}),
        UNITS: json.dumps(units),
    }


def metric_names(names: Iterable[str]) -> dict[str, str]:
    """Each name in the characters that a metric's name may have; no two become one.

    Upper and lower case count as one, as they do in some databases. A name that can stay as it is
    keeps its place before one that would become it.
    """
    wanted = {name: _allowed(name) for name in names}
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in sorted(wanted, key=lambda one: one != wanted[one]):
        found[name], number = wanted[name], 2
        while found[name].casefold() in taken:
            found[name], number = f"{wanted[name]}-{number}", number + 1
        taken.add(found[name].casefold())
    return {name: found[name] for name in wanted}


def one_line(value: object, longest: int) -> str:
    """A value on one line, without characters that break or turn a line, cut to a length."""
    return printable(str(value))[:longest]


def _allowed(name: str) -> str:
    kept = unicodedata.normalize("NFC", name)
    kept = "".join(c if c.isalnum() or c in "_-. " else "_" for c in kept)[:_LONGEST_METRIC]
    return kept if kept.strip(".") else kept.replace(".", "_")  # no `..` of a path


def _git(*arguments: str) -> str:
    try:
        found = subprocess.run(
            ["git", *arguments], cwd=_CHECKOUT, capture_output=True, text=True, check=False
        )
    except OSError:
        return ""
    return found.stdout.strip() if found.returncode == 0 else ""
