"""The page of a preview: one HTML file that holds its own pictures; it asks no network.

A page that is watched looks once a second into a small file beside it, and loads itself again when
a newer page is there; that works for a page from the disk as well as for one that is served.
"""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from fmbseg.pictures.colours import palette
from fmbseg.preview.pictures import find_picture, image_picture
from fmbseg.preview.seen import Seen
from fmbseg.preview.words import Facts, Find
from fmbseg.report import page as report
from fmbseg.store.names import printable

DATA_FILES = ("templates/*.j2",)
VERSION = "version.js"
"""The small file beside a watched page."""
_FOLDERS = Path(__file__).parent / "templates", Path(report.__file__).parent / "templates"
_MOST_CONFUSIONS = 12
_FEW_WORDS = 60
"""Of a longer class list one find of each kind is shown a name, so that the page stays small."""


def page(
    sample: Sequence[Seen],
    facts: Facts,
    about: str,
    refused: Mapping[str, str],
    *,
    version: str = "",
    problem: str = "",
) -> str:
    """The page; the same arguments give the same text.

    Args:
        sample: the images that were looked at.
        facts: what became of the names on them.
        about: whose images and which models, in a few words.
        refused: names of images that cannot be read to the reason.
        version: of a watched page, letters and digits; it loads itself again when the file
            `VERSION` names another one.
        problem: with the class list as it is now; the page then shows an older one.
    """
    names = [word.name for word in facts.words]
    colours = palette(len(names))
    rgb = [(int(red), int(green), int(blue)) for red, green, blue in colours]
    each = 1 if len(names) > _FEW_WORDS else max(len(sample), 1)

    def pictured(finds: Sequence[Find]) -> list[tuple[Find, str]]:
        return [
            (find, find_picture(sample[find.image], find.mask, rgb[find.winner]))
            for find in finds[:each]
        ]

    environment = report.page_environment(*_FOLDERS)
    watch = environment.get_template("watch.js.j2")
    script = watch.render(version=version, file=VERSION) if version else ""
    return environment.get_template("preview.html.j2").render(
        about=about,
        names=names,
        colours=rgb,
        facts=facts,
        images=len(sample),
        temperature=facts.temperature,
        finds=[(word, pictured(word.best), pictured(word.worst)) for word in facts.words],
        confusions=[
            (one, *pictured([one.example])[0]) for one in facts.confusions[:_MOST_CONFUSIONS]
        ],
        more_confusions=max(0, len(facts.confusions) - _MOST_CONFUSIONS),
        sample=[
            (seen.name, image_picture(seen, labels, colours), [names[index] for index in present])
            for seen, labels, present in zip(sample, facts.labels, facts.present, strict=True)
        ],
        image_names=[seen.name for seen in sample],
        refused={printable(name): reason for name, reason in refused.items()},
        watched=bool(version),
        problem=problem,
        version_file=VERSION,
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
