"""`fmbseg serve`: a trained model behind HTTP; docs/serve.md."""

import argparse
import sys

from pydantic import ValidationError

from fmbseg.commands.class_list import class_list
from fmbseg.commands.model_source import model_source
from fmbseg.errors import UserError
from fmbseg.serving.settings import Limits
from fmbseg.web.listening import is_loopback


def serve(arguments: argparse.Namespace) -> int:
    """Load the model once and answer requests until Ctrl-C or SIGTERM."""
    given = {name: getattr(arguments, name) for name in Limits.model_fields}
    try:
        limits = Limits(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        first = error.errors()[0]
        option = str(first["loc"][0]).replace("_", "-")
        raise UserError(f"--{option}: {first['msg'].lower()}, found {first['input']}") from None
    if not 0 <= arguments.port <= 65_535:
        raise UserError(f"--port: found {arguments.port}; wanted 0 to 65535")
    own = class_list(arguments.classes, "--classes") if arguments.classes else None
    from fmbseg.segmenter import Segmenter  # takes seconds; mistakes above are told at once
    from fmbseg.serving.serve import serve as serve_model

    with model_source(arguments.model) as source:
        segmenter = Segmenter.load(
            source.folder, device=arguments.device, precision=arguments.precision,
            allow_paths=arguments.trust_paths,
        )  # fmt: skip
    own = own or segmenter.trained_vocabulary
    if own is None:
        raise UserError(f"{arguments.model} names no classes; wanted --classes NAMES")
    if not is_loopback(arguments.host):
        print(
            f"--host {arguments.host}: whoever reaches this address can use the server; it asks "
            "for no password (docs/serve.md)", file=sys.stderr,
        )  # fmt: skip

    def ready(address: str) -> None:
        print(f"serving {arguments.model} ({len(own)} classes): {address}    (Ctrl-C ends it)",
              flush=True)  # fmt: skip

    serve_model(segmenter, own, limits, arguments.host, arguments.port, ready)
    return 0
