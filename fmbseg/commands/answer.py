"""What a command answers to people and to programs, and the options that all commands share."""

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fmbseg.progress import silent

WITHOUT_JSON = ("review", "serve", "completion")
"""Commands that run until they are stopped, or that print what another program reads anyway."""


@dataclass(frozen=True)
class Answer:
    """What a command did.

    Attributes:
        facts: for programs, written with `--json`: names to JSON values or paths.
        code: the exit code; docs/cli.md lists them.
    """

    facts: Mapping[str, Any] = field(default_factory=dict)
    code: int = 0


def add_common_options(commands: Mapping[str, argparse.ArgumentParser]) -> None:
    """Give every command `--quiet`, and `--json` where it has an answer.

    Args:
        commands: name to parser; of one with actions of its own the actions get the options.
    """
    for name, parser in commands.items():
        for leaf in _leaves(parser):
            shared = leaf.add_argument_group("for programs")
            shared.add_argument(
                "--quiet", action="store_true", help="say nothing but errors; no progress"
            )
            if name not in WITHOUT_JSON:
                shared.add_argument(
                    "--json", action="store_true",
                    help="one JSON document on standard output, all words on standard error",
                )  # fmt: skip


@contextlib.contextmanager
def voice(arguments: argparse.Namespace) -> Iterator[None]:
    """Inside, what is printed goes where `--json` and `--quiet` want it."""
    with contextlib.ExitStack() as stack:
        if arguments.quiet:
            stack.enter_context(silent())
            nowhere = stack.enter_context(Path(os.devnull).open("w"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
        elif wants_json(arguments):
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        yield


def wants_json(arguments: argparse.Namespace) -> bool:
    """Whether `--json` was given to a command that has it."""
    return bool(getattr(arguments, "json", False))


def print_json(command: str, code: int, facts: Mapping[str, Any]) -> None:
    """Write the document of `--json`: command, exit code and facts.

    Characters beyond ASCII stand as escapes, so that no name in it can steer a terminal.
    """
    document = {"command": command, "code": code, **facts}
    print(json.dumps(document, indent=2, default=_value, allow_nan=False))


def _value(one: object) -> object:
    if isinstance(one, Path):
        return str(one)
    if hasattr(one, "item"):  # a number of numpy
        return one.item()
    raise TypeError(f"{type(one).__name__} is no JSON value")


def _leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    below = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    if not below:
        yield parser
    for one in below:
        for inner in one.choices.values():
            yield from _leaves(inner)
