"""`fmbseg preview`: what becomes of each class name on a few images; docs/preview.md."""

import argparse
import hashlib
import time
from pathlib import Path

from fmbseg.commands.answer import Answer, wants_json
from fmbseg.commands.class_list import class_list
from fmbseg.errors import UserError, one_line
from fmbseg.params import load_params
from fmbseg.preview.page import VERSION
from fmbseg.preview.words import Facts
from fmbseg.project_files import default_params
from fmbseg.steps.ending import shortest
from fmbseg.steps.preview import Preview
from fmbseg.steps.ready import missing_for
from fmbseg.steps.workspace import Workspace
from fmbseg.store import scan_images, write_bytes
from fmbseg.store.names import printable
from fmbseg.vocabulary import Vocabulary, VocabularyError, read_classes

PAGE = "index.html"
_LOOK_EVERY_S = 0.3
"""How often the class file is looked at; whether it has changed is seen by its bytes."""


def preview(arguments: argparse.Namespace) -> Answer:
    """Write the page, say what is on it, and with --watch write it anew after every edit."""
    if arguments.watch and wants_json(arguments):
        raise UserError(
            "--json: its document comes at the end, and --watch has none; leave out one"
        )
    file = Path(arguments.classes)
    version = _version(file) if arguments.watch else ""
    vocabulary = class_list(arguments.classes, "--classes")
    if arguments.watch and not version:
        raise UserError("--watch: found names; wanted a class file in --classes, to be watched")
    changes = {"data.images": str(arguments.images)}
    if arguments.profile is not None:
        changes["models.profile"] = arguments.profile
    workspace = Workspace(arguments.out, load_params(default_params(), changes))
    if (problem := missing_for(workspace)) is not None:
        raise UserError(problem)
    found = scan_images(arguments.images)
    session = Preview(workspace, found.names, arguments.n)
    facts = _write(session, vocabulary, arguments.out, version)
    print(f"page: {shortest(arguments.out / PAGE)}")
    if arguments.watch:
        print(f"watching {file}: save it, and the page shows the new names (Ctrl-C ends)")
        facts = _watch(session, file, arguments.out, facts, version)
    words = [{"name": word.name, "images": word.images, "finds": len(word.finds),
              "undecided": word.undecided} for word in facts.words]  # fmt: skip
    return Answer({
        "page": arguments.out / PAGE, "images": len(facts.present), "words": words,
        "never_seen": list(facts.never_seen), "never_found": list(facts.never_found),
    })  # fmt: skip


def _write(session: Preview, vocabulary: Vocabulary, out: Path, version: str) -> Facts:
    """Write the page and say in a few lines what to look at."""
    began = time.perf_counter()
    facts = session.facts(vocabulary)
    _publish(session.page(facts, version=version), out, version)
    seen = ", ".join(f"{word.name} {word.images}" for word in facts.words if word.images)
    print(printable(f"seen in so many of {len(facts.present)} images: {seen or 'none'}"))
    for what, names in (("seen in none", facts.never_seen), ("no find", facts.never_found)):
        if names:
            print(printable(f"  {what}: {', '.join(names)}"))
    for one in facts.confusions[:3]:
        first, second = (facts.words[index].name for index in one.names)
        said = f"  undecided: {first} or {second}, {one.undecided} of {one.places} masks"
        print(printable(said))
    print(f"{time.perf_counter() - began:.1f} s", flush=True)
    return facts


def _publish(text: str, out: Path, version: str) -> None:
    """The page first, then the small file that makes one that is open load it."""
    write_bytes(out / PAGE, text.encode("utf-8", "backslashreplace"))
    if version:
        write_bytes(out / VERSION, f'fmbsegVersion("{version}");\n'.encode())


def _version(file: Path) -> str:
    """Of a file's content; empty where there is none."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
    except (OSError, ValueError):  # names, or an editor is about to put the new file in its place
        return ""


def _watch(session: Preview, file: Path, out: Path, facts: Facts, known: str) -> Facts:
    """Write the page anew whenever the class file has changed, until Ctrl-C; the last facts."""
    try:
        while True:
            time.sleep(_LOOK_EVERY_S)
            version = _version(file)
            if version in ("", known):
                continue
            known = version
            try:
                facts = _write(session, read_classes(file), out, version)
            except (UserError, VocabularyError) as error:
                print(one_line(error), flush=True)
                _publish(
                    session.page(facts, version=version, problem=one_line(error)), out, version
                )
    except KeyboardInterrupt:
        print()
    return facts
