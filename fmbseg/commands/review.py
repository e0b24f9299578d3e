"""`fmbseg review`: a page on this machine where masks are put right; docs/review.md."""

import argparse
import getpass
import os
import sys
import webbrowser
from collections import Counter
from pathlib import Path

from fmbseg.errors import UserError
from fmbseg.review.queue import states
from fmbseg.review.serve import serve
from fmbseg.steps.ending import program, shortest
from fmbseg.steps.workspace import Workspace, params_file
from fmbseg.store.names import printable

_NAMED = 10
"""So many images that changed since they were corrected are named."""


def review(arguments: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C, then say what was done and what comes next."""
    root: Path = arguments.workspace
    makes = f"`{program()} label IMAGES --classes ...` or `{program()} run` makes them"
    if not params_file(root).is_file():
        raise UserError(
            f"{root}: found no params.yaml there; wanted the folder of a run, such as "
            f"runs/<folder of images>; {makes}"
        )
    workspace = Workspace.open(root)
    if not any(workspace.pseudo_masks.glob("[!.]*/manifest.json")):
        raise UserError(f"{workspace.pseudo_masks}: found no masks to review; {makes}")
    by = printable(arguments.by or _user())

    def ready(address: str) -> None:
        print(
            f"review of {printable(shortest(root))} by {by}: {address}    (Ctrl-C ends it)",
            flush=True,
        )
        if arguments.open if arguments.open is not None else _has_screen():
            webbrowser.open(address)

    done = serve(workspace, by, arguments.port, ready)
    seconds = sum(done.seconds.values())
    left = states(workspace)
    found = Counter(left.values())
    print(f"\n{len(done.seconds)} images reviewed, {len(done.accepted)} of them accepted", end="")
    print(f", {seconds / len(done.seconds):.0f} s an image" if done.seconds else "")
    print(
        f"in all: {found['accepted']} accepted, {found['draft']} drafts, in "
        f"{printable(shortest(workspace.corrections))}/"
    )
    if found["changed"]:
        names = [printable(name) for name, state in left.items() if state == "changed"][:_NAMED]
        print(
            f"{found['changed']} corrected images are other pictures by now, review them again: "
            f"{', '.join(names)}{', ...' if found['changed'] > _NAMED else ''}"
        )
    if found["accepted"]:
        print(
            "next: run again (`make run`, `dvc repro` or `fmbseg run`); `make serve` does by itself"
        )
    return 0


def _user() -> str:
    """Name of the user; some containers have none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "nobody"


def _has_screen() -> bool:
    """Whether a person is likely to see a browser that is opened here."""
    graphical = sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )
    return graphical and sys.stdout.isatty()
