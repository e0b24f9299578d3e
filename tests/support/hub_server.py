"""A stand-in for a model hub on loopback: repositories, commits, LFS, as its client asks for them.

It answers what `huggingface_hub` of the lock file calls to make a repository, commit to it, look it
up and fetch from it. With `xet` it also takes what hf_xet uploads, which it keeps as it came and
cannot serve. Nothing of it is a claim about a real hub.
"""

import contextlib
import threading
from collections.abc import Iterator
from http.server import ThreadingHTTPServer

from tests.support.hub_answers import HubAnswers
from tests.support.hub_repository import Files, Repository


class HubServer(ThreadingHTTPServer):
    """Attributes: `repositories` by owner/name; `asked`: method and path of every request.

    `large` holds what came by LFS, `blocks` and `shards` what came by xet storage, which is there
    with `xet`; `claimed` replaces the size of a file in a listing; `down` makes it hang up.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), HubAnswers)
        self.repositories: dict[str, Repository] = {}
        self.asked: list[tuple[str, str]] = []
        self.large: dict[str, bytes] = {}
        self.blocks: dict[str, bytes] = {}
        self.shards: list[bytes] = []
        self.xet = False
        self.claimed: dict[str, int | None] = {}
        self.down = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    @property
    def elsewhere(self) -> str:
        """The same under another name: large files lie on another host, which gets no token."""
        return self.url.replace("127.0.0.1", "localhost")

    def files(self, repo: str) -> Files:
        """Of the newest commit."""
        found = self.repositories[repo]
        return found.commits[found.refs["main"]]

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away."""


@contextlib.contextmanager
def hub_server() -> Iterator[HubServer]:
    """A hub without repositories on a free port of loopback, stopped at the end."""
    server = HubServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
