"""Options of `fmbseg push-to-hub`."""

import argparse
from pathlib import Path


def add_push_to_hub(parser: argparse.ArgumentParser) -> None:
    """What `fmbseg push-to-hub` takes."""
    parser.add_argument("folder", type=Path, help="trained folder, such as models/train")
    parser.add_argument("repo", metavar="OWNER/NAME", help="repository; made where there is none")
    parser.add_argument(
        "--dry-run", type=Path, metavar="OUT",
        help="write the files into this folder, to look at; nothing is sent",
    )  # fmt: skip
    parser.add_argument(
        "--private", action="store_true", help="a new repository that its owner alone sees"
    )
    parser.add_argument(
        "--endpoint", metavar="URL", help="of the hub; default: HF_ENDPOINT, or the client's own"
    )
    parser.add_argument(
        "--licence", metavar="ID", help="that you give the head, as hubs write it: apache-2.0"
    )
    parser.add_argument(
        "--name", action="append", default=[], metavar="KEY=NAME",
        help="a published name in place of a path of this machine: clip.pretrained=openai",
    )  # fmt: skip
    parser.add_argument("--message", default="Upload by fmbseg", help="of the commit")
