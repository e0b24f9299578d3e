"""Serving the review page on loopback until Ctrl-C."""

import contextlib
import json
import os
import secrets
import threading
from collections.abc import Callable
from pathlib import Path

import uvicorn

from fmbseg.review.app import Review, review_app
from fmbseg.steps.workspace import Workspace
from fmbseg.store import StoreError, read_json
from fmbseg.web.listening import listening

HOST = "127.0.0.1"
_ADDRESS = Path(".scratch") / "review.json"
"""Port and token of the last time: a page that is still open finds the server again."""


def serve(
    workspace: Workspace, by: str, port: int | None, ready: Callable[[str], object]
) -> Review:
    """Serve the page until Ctrl-C.

    Args:
        workspace: whose images.
        by: the person, as histories name them.
        port: to listen on; None for that of the last time, or any other that is free.
        ready: is told the page's address once the server listens.

    Returns:
        What was done.

    Raises:
        StoreError: something else listens on the port asked for.
    """
    last_port, token = _last(workspace.root)
    with listening(HOST, (last_port, 0) if port is None else (port,)) as listener:
        number = int(listener.getsockname()[1])
        _remember(workspace.root, number, token)
        review = Review(workspace, by, token)
        config = uvicorn.Config(
            review_app(review), log_level="warning", access_log=False, lifespan="off",
            timeout_graceful_shutdown=2,
        )  # fmt: skip
        threading.Thread(target=_import_ahead, daemon=True).start()
        ready(f"http://{HOST}:{number}/#{token}")
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again at its end
            uvicorn.Server(config).run(sockets=[listener])
    return review


def _import_ahead() -> None:
    """Import what the first image needs while the person still looks at the queue."""
    import fmbseg.pseudo.confidence  # noqa: F401


def _last(root: Path) -> tuple[int, str]:
    try:
        found = read_json(root / _ADDRESS)
        return int(found["port"]), str(found["token"])
    except (StoreError, OSError, KeyError, TypeError, ValueError):
        return 0, secrets.token_urlsafe(16)


def _remember(root: Path, port: int, token: str) -> None:
    """Keep port and token where this user alone can read them."""
    path = root / _ADDRESS
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        json.dump({"port": port, "token": token}, stream)
