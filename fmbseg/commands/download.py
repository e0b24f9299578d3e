"""`fmbseg download`: public data sets and model weights."""

import argparse
from pathlib import Path
from typing import Any

from fmbseg.commands.answer import Answer
from fmbseg.commands.params_option import params_option
from fmbseg.datasets.catalogue import CATALOGUE
from fmbseg.errors import NEGATIVE, UserError
from fmbseg.fetch import install
from fmbseg.fetch.overview import overview
from fmbseg.models.status import WeightsStatus
from fmbseg.steps.evaluation_sets import benchmark_root
from fmbseg.steps.foundation_models import overrides_of
from fmbseg.store import free_bytes, human_bytes


def download(arguments: argparse.Namespace) -> Answer:
    """Install data sets, fetch a profile's weights, or list what there is."""
    names: list[str] = arguments.names
    if not names and arguments.weights is None and not arguments.list:
        raise UserError(
            f"nothing named; wanted --list, --weights PROFILE or some of {', '.join(CATALOGUE)}"
        )
    for name in names:
        if name not in CATALOGUE:
            raise UserError(f"unknown data set {name!r}; wanted one of {', '.join(CATALOGUE)}")
    root = Path()
    if names or arguments.list:  # where `evaluate` looks, unless the user names another folder
        root = arguments.root or benchmark_root(params_option(arguments.params))
    if arguments.list:
        return Answer(_list(names or list(CATALOGUE), root))
    installed = []
    for name in names:
        entry = CATALOGUE[name]
        print(f"{name}: {entry.title}. Terms: {entry.licence}; see {entry.home}")
        for note in entry.notes:
            print(f"  {note}")
        found = install(
            name, root, splits=arguments.split, keep_archives=arguments.keep_archives,
            zips=arguments.zips, mirrors=arguments.mirror,
        )  # fmt: skip
        counts = ", ".join(f"{split} {count} images" for split, count in found.images.items())
        print(f"{name}: in place in {root}: {counts}; class names in {found.classes}")
        for note in found.notes:
            print(f"  {note}")
        installed.append({"name": name, "root": root, **vars(found)})
    weights = _weights(arguments) if arguments.weights else []
    complete = all(status.present for status in weights)
    facts = {"installed": installed, "weights": [vars(status) for status in weights]}
    return Answer(facts, 0 if complete else NEGATIVE)


def _list(names: list[str], root: Path) -> dict[str, Any]:
    free = free_bytes(root)
    print(f"below {root}, where {human_bytes(free)} are free; sizes are about")
    listed = []
    for name in names:
        entry = CATALOGUE[name]
        column = f", column {entry.column} of the paper" if entry.column else ""
        print(f"{name}: {entry.title}{column}")
        print(f"  terms: {entry.licence}; {entry.home}")
        splits = overview(entry, root)
        by_hand = any(archive.login for archive in entry.archives)
        listed.append(
            {"name": name, "title": entry.title, "licence": entry.licence, "home": entry.home,
             "needs_account": by_hand, "splits": [vars(split) for split in splits]}
        )  # fmt: skip
        for split in splits:
            more = " and more" if split.unknown_size else ""
            here = "absent" if split.images is None else f"present, {split.images} images"
            print(
                f"  {split.split:<9}{split.published:>8} images  "
                f"to fetch {human_bytes(split.fetch_bytes):>7}{more}  "
                f"on disk {human_bytes(split.disk_bytes):>7}{more}  {here}"
            )
        if by_hand:
            print("  an account is needed: fetch its archives by hand, then use --zips FOLDER")
    return {"root": root, "free_bytes": free, "data_sets": listed}


def _weights(arguments: argparse.Namespace) -> list[WeightsStatus]:
    """Fetch a profile's models, overridden as in params.yaml where that names the profile."""
    from fmbseg.fetch.weights import fetch_weights

    profile, overrides = arguments.weights, {}
    models = params_option(arguments.params).params.models
    if models.profile == profile:
        overrides = overrides_of(models)
    statuses = fetch_weights(profile, overrides)
    for status in statuses:
        print(f"{status.model:<8}{status.name:<44}{status.where}")
    return statuses
