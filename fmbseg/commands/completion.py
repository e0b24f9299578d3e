"""`fmbseg completion`: what a shell needs to complete commands, options and paths."""

import argparse
from pathlib import Path
from typing import Any

SHELLS = ("bash", "zsh", "fish")


def add_completion(parser: argparse.ArgumentParser, whole: argparse.ArgumentParser) -> None:
    """What `fmbseg completion` takes.

    Args:
        parser: of this command.
        whole: of the program, which the script is made from.
    """
    parser.add_argument("shell", choices=SHELLS)
    parser.set_defaults(whole=whole)


def completion(arguments: argparse.Namespace) -> int:
    """Print the script; docs/cli.md says where it goes."""
    import shtab

    whole: argparse.ArgumentParser = arguments.whole
    _complete_paths(whole, shtab)
    print(shtab.complete(whole, shell=arguments.shell))
    return 0


def _complete_paths(parser: argparse.ArgumentParser, shtab: Any) -> None:
    """Have options and arguments that are paths completed by the names of files."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                _complete_paths(below, shtab)
        elif action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
