"""Serving a model until it is told to stop."""

import contextlib
from collections.abc import Callable

import uvicorn

from fmbseg.segmenter import Segmenter
from fmbseg.serving.app import serving_app
from fmbseg.serving.settings import Limits
from fmbseg.vocabulary import Vocabulary
from fmbseg.web.headers import LOOPBACK
from fmbseg.web.listening import is_loopback, listening

_MOST_HEADER_BYTES = 2**18
_CONNECTIONS_A_PLACE = 8


def serve(
    segmenter: Segmenter, own: Vocabulary, limits: Limits, host: str, port: int,
    ready: Callable[[str], object],
) -> None:  # fmt: skip
    """Answer requests until Ctrl-C or SIGTERM; what is under way then is finished.

    Args:
        segmenter: loaded already.
        own: classes of requests that name none.
        limits: of requests.
        host: address to listen on.
        port: to listen on; 0 for any that is free.
        ready: is told the server's address once it listens.

    Raises:
        StoreError: the port cannot be had.
    """
    hosts = (*LOOPBACK, host) if is_loopback(host) else ("*",)
    with listening(host, (port,)) as listener:
        config = uvicorn.Config(
            serving_app(segmenter, own, limits, hosts), log_level="warning", access_log=False,
            lifespan="off", h11_max_incomplete_event_size=_MOST_HEADER_BYTES,
            limit_concurrency=limits.at_once * _CONNECTIONS_A_PLACE,
            timeout_graceful_shutdown=round(limits.timeout) + 1, server_header=False,
        )  # fmt: skip
        shown = f"[{host}]" if ":" in host else host
        ready(f"http://{shown}:{listener.getsockname()[1]}")
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again at its end
            uvicorn.Server(config).run(sockets=[listener])
