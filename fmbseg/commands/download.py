"""`fmbseg download`: public data sets and model weights."""

import argparse
from pathlib import Path

from fmbseg.commands.params_option import params_option
from fmbseg.datasets.catalogue import CATALOGUE
from fmbseg.errors import UserError
from fmbseg.fetch import install
from fmbseg.fetch.overview import overview
from fmbseg.steps.evaluation_sets import benchmark_root
from fmbseg.steps.foundation_models import overrides_of
from fmbseg.store import free_bytes, human_bytes


def download(arguments: argparse.Namespace) -> int:
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
        _list(names or list(CATALOGUE), root)
        return 0
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
    return _weights(arguments) if arguments.weights else 0


def _list(names: list[str], root: Path) -> None:
    print(f"below {root}, where {human_bytes(free_bytes(root))} are free; sizes are about")
    for name in names:
        entry = CATALOGUE[name]
        column = f", column {entry.column} of the paper" if entry.column else ""
        print(f"{name}: {entry.title}{column}")
        print(f"  terms: {entry.licence}; {entry.home}")
        for split in overview(entry, root):
            more = " and more" if split.unknown_size else ""
            here = "absent" if split.images is None else f"present, {split.images} images"
            print(
                f"  {split.split:<9}{split.published:>8} images  "
                f"to fetch {human_bytes(split.fetch_bytes):>7}{more}  "
                f"on disk {human_bytes(split.disk_bytes):>7}{more}  {here}"
            )
        if any(archive.login for archive in entry.archives):
            print("  an account is needed: fetch its archives by hand, then use --zips FOLDER")


def _weights(arguments: argparse.Namespace) -> int:
    """Fetch a profile's models, overridden as in params.yaml where that names the profile."""
    from fmbseg.fetch.weights import fetch_weights

    profile, overrides = arguments.weights, {}
    models = params_option(arguments.params).params.models
    if models.profile == profile:
        overrides = overrides_of(models)
    statuses = fetch_weights(profile, overrides)
    for status in statuses:
        print(f"{status.model:<8}{status.name:<44}{status.where}")
    return 0 if all(status.present for status in statuses) else 1
