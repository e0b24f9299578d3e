"""`fmbseg push-to-hub`: a trained model's head, config and card to a hub; docs/hub.md."""

import argparse
import tempfile
from pathlib import Path

from fmbseg.commands.answer import Answer
from fmbseg.errors import UserError
from fmbseg.hub.files import FILES
from fmbseg.hub.names import PREFIX, checked_repo
from fmbseg.hub.push import endpoint_of, push, require_online, require_token
from fmbseg.store import human_bytes
from fmbseg.store.names import printable


def push_to_hub(arguments: argparse.Namespace) -> Answer:
    """Write the files, say what goes where, and send them."""
    repo = checked_repo(arguments.repo.removeprefix(PREFIX))
    named = dict(_pair(one) for one in arguments.name)
    out: Path | None = arguments.dry_run
    if out is not None:
        _require_free(out)
        _write(arguments, repo, out, named)
        print(printable(f"nothing was sent; {out} holds all that would be"))
        return Answer({"repo": repo, "sent": False, "out": out})
    require_online()
    endpoint, token = endpoint_of(arguments.endpoint), require_token()
    with tempfile.TemporaryDirectory(prefix="fmbseg-hub-") as folder:
        _write(arguments, repo, Path(folder), named)
        who = "its owner alone sees a new repository" if arguments.private else (
            "everybody sees a new repository"
        )  # fmt: skip
        print(printable(f"sending to {endpoint}/{repo} ({who})"), flush=True)
        sent = push(
            Path(folder), repo, endpoint=endpoint, token=token, private=arguments.private,
            message=arguments.message,
        )  # fmt: skip
    seen = "private" if sent.private else "public"
    print(printable(f"sent: {sent.url}, commit {sent.commit[:12]}, {seen}"))
    print(f'  Segmenter.load("{PREFIX}{repo}")')
    return Answer(
        {"repo": repo, "sent": True, "url": sent.url, "commit": sent.commit,
         "private": sent.private}
    )  # fmt: skip


def _write(arguments: argparse.Namespace, repo: str, out: Path, named: dict[str, str]) -> None:
    from fmbseg.steps.published import write_for_hub

    facts = write_for_hub(arguments.folder, repo, out, named=named, licence=arguments.licence)
    for name in FILES:
        print(f"  {name}: {human_bytes((out / name).stat().st_size)}")
    for what, licence in facts.licences.items():
        print(printable(f"  licence, {what}: {licence}"))
    if not facts.scores:
        print("  no evaluation of these weights was found: the card holds no figures")


def _require_free(out: Path) -> None:
    if out.is_dir() and any(one.name not in FILES for one in out.iterdir()):
        raise UserError(f"--dry-run: {out} holds other files; name an empty or a new folder")


def _pair(given: str) -> tuple[str, str]:
    key, equals, value = given.partition("=")
    if not equals or not value:
        raise UserError(f"--name: found {given!r}; wanted KEY=NAME, as clip.pretrained=openai")
    return key, value
