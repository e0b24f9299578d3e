"""A file server on loopback that can be told to misbehave, and that counts what it sends."""

import contextlib
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Served:
    """One path and how it is answered.

    Attributes:
        content: the bytes.
        etag: None for a server that sends no ETag.
        modified: of Last-Modified; None for none.
        ranges: whether Range is honoured.
        heeds_if_range: False for a server that goes on although the file has changed.
        cuts: bytes after which each of the next answers breaks off, in order.
        claimed: Content-Length as sent; None for the truth, -1 for no such header.
        statuses: answers to come before the content, in order.
        location: answer with a redirect to this.
        content_type: as sent.
        chunk_pause_s: pause after every 64 kB.
    """

    content: bytes = b""
    etag: str | None = '"one"'
    modified: str | None = None
    ranges: bool = True
    heeds_if_range: bool = True
    cuts: list[int] = field(default_factory=list)
    claimed: int | None = None
    statuses: list[int] = field(default_factory=list)
    location: str | None = None
    content_type: str = "application/octet-stream"
    chunk_pause_s: float = 0.0
    headers: dict[str, str] = field(default_factory=dict)


class FileServer(ThreadingHTTPServer):
    """Attributes: `paths` served; `sent` body bytes by path; `asked` request headers by path."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.paths: dict[str, Served] = {}
        self.sent: dict[str, int] = defaultdict(int)
        self.asked: dict[str, list[dict[str, str]]] = defaultdict(list)

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"

    def serve(self, path: str, content: bytes = b"", **how: object) -> str:
        """Serve a path from now on; returns its address."""
        self.paths[path] = Served(content, **how)
        return self.url(path)

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that goes away is what many of the tests want."""


class _Handler(BaseHTTPRequestHandler):
    server: FileServer
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def _answer(self, *, body: bool) -> None:
        path = self.path.split("?")[0]
        self.server.asked[path].append(dict(self.headers))
        served = self.server.paths.get(path)
        if served is None:
            self._plain(404)
        elif served.statuses:
            self._plain(served.statuses.pop(0))
        elif served.location is not None:
            self.send_response(302)
            self.send_header("Location", served.location)
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._file(path, served, body)

    def _plain(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _file(self, path: str, served: Served, body: bool) -> None:
        content, start = served.content, 0
        wanted = self.headers.get("Range")
        same = self.headers.get("If-Range") in (None, served.etag, served.modified)
        if wanted and served.ranges and (same or not served.heeds_if_range):
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self._plain(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        rest = content[start:]
        claimed = len(rest) if served.claimed is None else served.claimed
        if claimed >= 0:
            self.send_header("Content-Length", str(claimed))
        for name, value in (("ETag", served.etag), ("Last-Modified", served.modified)):
            if value is not None:
                self.send_header(name, value)
        for name, value in served.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", served.content_type)
        self.end_headers()
        if not body:
            return
        cut = served.cuts.pop(0) if served.cuts else None
        rest = rest if cut is None else rest[:cut]
        for first in range(0, len(rest), 2**16):
            chunk = rest[first : first + 2**16]
            self.wfile.write(chunk)
            self.wfile.flush()
            self.server.sent[path] += len(chunk)
            if served.chunk_pause_s:
                time.sleep(served.chunk_pause_s)
        if cut is not None or claimed != len(rest):
            self.close_connection = True


@contextlib.contextmanager
def file_server() -> Iterator[FileServer]:
    """A server on a free port of loopback, stopped at the end."""
    server = FileServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
