"""`make benchmarks`: the paper's table, data set by data set: download, run, score, compare.

Training is the same for every column: COCO's training images with the names of COCO-Stuff, the
profile `paper`. What is there already is neither fetched nor computed again, so the same command
goes on after a stop; a data set that cannot be had is said and left out.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from fmbseg.cli import add_archive_options
from fmbseg.datasets.catalogue import CATALOGUE
from fmbseg.errors import MISTAKE, STOPPED, say
from fmbseg.fetch import install
from fmbseg.methods.table import OURS
from fmbseg.params import load_params
from fmbseg.params_edit import lay_over, write_params
from fmbseg.project_files import PARAMS
from fmbseg.report.comparison import compare, percent, signed
from fmbseg.steps import evaluate, figures
from fmbseg.steps.foundation_models import overrides_of
from fmbseg.steps.workspace import Workspace
from fmbseg.store import StoreError

DATA_SETS = (
    "voc21", "voc20", "context59", "coco_things80", "coco_stuff171", "cityscapes19", "ade150",
)  # fmt: skip
"""One for each column of the paper's table, in its order."""
TRAINING = "coco_stuff171"


def main(argv: Sequence[str] | None = None, run: Callable[[Path], int] | None = None) -> int:
    """Fetch, run and score what was asked for; prints the table after every data set.

    Args:
        argv: command line.
        run: brings a workspace up to date and returns an exit code; `make run` where None.

    Returns:
        0; 1 when a data set could not be had; 2 for what the user can put right first.
    """
    arguments = _parser().parse_args(argv)
    run = run or _run
    unknown = [name for name in arguments.data_sets if name not in CATALOGUE]
    if unknown:
        print(f"fmbseg: unknown data set {unknown[0]!r}; see fmbseg download --list",
              file=sys.stderr)  # fmt: skip
        return MISTAKE
    root: Path = arguments.workspace
    try:
        prepare(root, arguments.profile)
        _weights(root)
        _install(root, TRAINING, ("train",), arguments)
        left_out = 0
        for name in arguments.data_sets:
            try:
                _install(root, name, ("val",), arguments)
            except Exception as error:
                say(f"fmbseg: {name} is left out", error)
                left_out += 1
                continue
            add(root, name)
            code = run(root)
            if code:
                return code
            print(table(Workspace.open(root)), flush=True)
    except KeyboardInterrupt:
        print("\nfmbseg: stopped; the same command goes on", file=sys.stderr)
        return STOPPED
    except Exception as error:
        return say("fmbseg", error)
    return 1 if left_out else 0


def prepare(root: Path, profile: str = "paper") -> None:
    """Make the workspace's params.yaml from the checkout's; one that is there stays as it is."""
    own = root / "params.yaml"
    if own.is_file():
        print(f"==> {own} rules", flush=True)
        return
    root.mkdir(parents=True, exist_ok=True)
    data = Path(load_params(PARAMS).data.benchmarks)
    lay_over(PARAMS, {
        "data.images": str(data / "coco_stuff164k/images/train2017"),
        "data.classes": str(data / f"{TRAINING}.classes.txt"),
        "data.benchmarks": os.path.relpath(data, root),
        "models.profile": profile,
        "evaluate.methods": [OURS],
        "evaluate.protocol": "tcl",
        "evaluate.background": "stuff_names",
    }, own)  # fmt: skip


def add(root: Path, name: str) -> None:
    """Score on one more data set from now on."""
    own = root / "params.yaml"
    data_sets = dict.fromkeys([*load_params(own).evaluate.data_sets, name])
    write_params(own, {"evaluate.data_sets": [*data_sets]})


def table(workspace: Workspace) -> str:
    """The measured figures beside the paper's, as Markdown; empty without any."""
    results = []
    for unit in evaluate.scored(workspace):
        try:
            results.append(figures.result(workspace, unit))
        except StoreError:  # not scored yet
            continue
    comparison = compare(results)
    if comparison is None:
        return ""
    lines = [
        f"mIoU in percent, {workspace.params.models.profile} models; figures compare only under "
        "the same protocol",
        "",
        "| column | data set | paper | measured | gap | images | protocol |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {one.name} | {one.of.data_set} {one.of.split} | {percent(one.paper)} | "
        f"{percent(one.measured)} | {signed(one.gap)} | {one.of.images:,} | "
        f"{one.of.protocol['name']} {one.of.protocol_hash} |"
        for one in comparison.columns
    ]
    return "\n".join(["", *lines, ""])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m flows.benchmarks", description=__doc__)
    parser.add_argument(
        "data_sets", nargs="*", default=list(DATA_SETS), metavar="DATA_SET",
        help=f"default: {' '.join(DATA_SETS)}",
    )  # fmt: skip
    parser.add_argument("--workspace", type=Path, default=Path("runs/paper"))
    parser.add_argument(
        "--profile", default="paper", help="of a workspace that is made; default: paper"
    )
    add_archive_options(parser)
    return parser


def _weights(root: Path) -> None:
    from fmbseg.fetch.weights import fetch_weights

    models = load_params(root / "params.yaml").models
    for status in fetch_weights(models.profile, overrides_of(models)):
        print(f"{status.model:<8}{status.name:<44}{status.where}", flush=True)


def _install(root: Path, name: str, splits: Sequence[str], arguments: argparse.Namespace) -> None:
    entry = CATALOGUE[name]
    print(f"==> {name}: {entry.title}. Terms: {entry.licence}; see {entry.home}", flush=True)
    found = install(
        name, root / load_params(root / "params.yaml").data.benchmarks, splits=splits,
        zips=arguments.zips, mirrors=arguments.mirror,
    )  # fmt: skip
    for note in found.notes:
        print(f"    {note}", flush=True)


def _run(root: Path) -> int:
    command = [sys.executable, "-m", "flows.run", "--workspace", str(root)]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
