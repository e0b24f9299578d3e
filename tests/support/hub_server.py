"""A stand-in for a model hub on loopback: repositories, commits, LFS, as its client asks for them.

It answers what `huggingface_hub` of the lock file calls to make a repository, commit to it, look it
up and fetch from it; xet storage is not there. Nothing of it is a claim about a real hub.
"""

import base64
import contextlib
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

TOKEN = "hf_a-token-of-the-tests"
OWNER = "owner"
Files = dict[str, bytes]


@dataclass
class Repository:
    """Attributes: `private`; `commits` by their hash; `refs`: branch or tag to commit."""

    private: bool
    commits: dict[str, Files] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def commit(self, files: Files, branch: str = "main") -> str:
        before = self.commits.get(self.refs.get(branch, ""), {})
        digest = hashlib.sha1(repr((len(self.commits), sorted(files))).encode()).hexdigest()
        self.commits[digest] = {**before, **files}
        self.refs[branch] = digest
        return digest


class HubServer(ThreadingHTTPServer):
    """Attributes: `repositories` by owner/name; `asked`: method and path of every request.

    `large` holds what came by LFS; `claimed` replaces the size of a file in a repository's listing.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.asked: list[tuple[str, str]] = []
        self.large: dict[str, bytes] = {}
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


class _Handler(BaseHTTPRequestHandler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: object) -> None:
        pass

    def do_GET(self) -> None:
        self._route(b"")

    def do_HEAD(self) -> None:
        self._route(b"")

    def do_POST(self) -> None:
        self._route(self._body())

    def do_PUT(self) -> None:
        self._route(self._body())

    def _route(self, body: bytes) -> None:
        path = self.path.split("?")[0]
        self.server.asked.append((self.command, path))
        if self.server.down:
            self.close_connection = True
            return
        for method, pattern, answer in _ROUTES:
            found = re.fullmatch(pattern, path)
            if found and self.command in method:
                answer(self, body, *found.groups())
                return
        self._say(404, {"error": f"no such address: {path}"})

    # What the client asks for, in the order of a push and then of a fetch.

    def validate_card(self, body: bytes) -> None:
        content = json.loads(body)["content"]
        said = yaml.safe_load(content.split("---\n")[1]) if content.startswith("---\n") else None
        bad = [] if isinstance(said, dict) else [{"message": "no metadata"}]
        self._say(400 if bad else 200, {"errors": bad, "warnings": []})

    def create(self, body: bytes) -> None:
        said = json.loads(body)
        if not self._knows():
            self._say(401, {"error": "Invalid username or password."})
            return
        repo = f"{said['organization']}/{said['name']}"
        if said["organization"] != OWNER:
            self._say(403, {"error": "You don't have the rights to create a model there"})
        elif repo in self.server.repositories:
            answer = {"error": "You already created this model repo", "url": self._url(repo)}
            self._say(409, answer)
        else:
            made = Repository(said.get("visibility") == "private")
            made.commit({".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"})
            self.server.repositories[repo] = made
            self._say(200, {"url": self._url(repo)})

    def preupload(self, body: bytes, repo: str, revision: str) -> None:
        if self._may_write(repo) is None:
            return
        files = [
            {"path": one["path"], "shouldIgnore": False,
             "uploadMode": "lfs" if one["path"].endswith(".safetensors") else "regular"}
            for one in json.loads(body)["files"]
        ]  # fmt: skip
        self._say(200, {"files": files})

    def lfs_batch(self, body: bytes, repo: str) -> None:
        if self._may_write(repo) is None:
            return
        objects = []
        for one in json.loads(body)["objects"]:
            told = {"oid": one["oid"], "size": one["size"]}
            if one["oid"] not in self.server.large:
                href = f"{self.server.url}/lfs/{one['oid']}"
                told["actions"] = {
                    "upload": {"href": href, "header": {}}, "verify": {"href": f"{href}/verify"},
                }  # fmt: skip
            objects.append(told)
        self._say(200, {"transfer": "basic", "objects": objects})

    def lfs_put(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            self._say(400, {"error": "another content"})
            return
        self.server.large[oid] = body
        self._say(200, {})

    def lfs_verify(self, body: bytes, oid: str) -> None:
        said = json.loads(body)
        whole = len(self.server.large.get(oid, b"")) == said["size"] and said["oid"] == oid
        self._say(200 if whole else 400, {})

    def commit(self, body: bytes, repo: str, revision: str) -> None:
        found = self._may_write(repo)
        if found is None:
            return
        files: Files = {}
        for line in body.splitlines():
            said = json.loads(line)
            value: dict[str, Any] = said["value"]
            if said["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif said["key"] == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
        digest = found.commit(files, revision)
        answer = {"success": True, "commitOid": digest,
                  "commitUrl": f"{self._url(repo)}/commit/{digest}"}  # fmt: skip
        self._say(200, answer)

    def info(self, body: bytes, repo: str, revision: str | None = None) -> None:
        found = self._may_read(repo)
        if found is None:
            return
        commit = self._commit(found, revision or "main")
        if commit is None:
            return
        claimed = self.server.claimed
        listed = [
            {"rfilename": name, "size": claimed.get(name, len(content))}
            for name, content in found.commits[commit].items()
        ]
        self._say(200, {"id": repo, "sha": commit, "private": found.private, "siblings": listed})

    def resolve(self, body: bytes, repo: str, revision: str, name: str) -> None:
        found = self._may_read(repo)
        commit = None if found is None else self._commit(found, revision)
        if found is None or commit is None:
            return
        content = found.commits[commit].get(name)
        if content is None:
            headers = {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit}
            self._say(404, {"error": "no such entry"}, headers)
            return
        sha = hashlib.sha256(content).hexdigest()
        headers = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
        if sha in self.server.large:
            headers |= {
                "X-Linked-Etag": f'"{sha}"', "X-Linked-Size": str(len(content)),
                "Location": f"{self.server.elsewhere}/large/{sha}",
            }  # fmt: skip
            self._send(302, b"", headers)
        else:
            self._send(200, content, headers)

    def large(self, body: bytes, oid: str) -> None:
        if self._knows():
            self._say(400, {"error": "a token was sent to the host of large files"})
        else:
            self._send(200, self.server.large[oid], {"ETag": f'"{oid}"'})

    # Who may do what.

    def _knows(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _may_read(self, repo: str) -> Repository | None:
        found = self.server.repositories.get(repo)
        if found is None or (found.private and not self._knows()):
            self._say(
                404 if self._knows() else 401, {"error": "Repository not found"},
                {"X-Error-Code": "RepoNotFound"},
            )  # fmt: skip
            return None
        return found

    def _may_write(self, repo: str) -> Repository | None:
        if not self._knows():
            self._say(401, {"error": "Invalid username or password."})
            return None
        return self._may_read(repo)

    def _commit(self, found: Repository, revision: str) -> str | None:
        commit = found.refs.get(revision, revision if revision in found.commits else None)
        if commit is None:
            self._say(404, {"error": "no revision"}, {"X-Error-Code": "RevisionNotFound"})
        return commit

    def _url(self, repo: str) -> str:
        return f"{self.server.url}/{repo}"

    # HTTP.

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _say(self, status: int, answer: object, headers: dict[str, str] | None = None) -> None:
        self._send(
            status, json.dumps(answer).encode(),
            {"Content-Type": "application/json", **(headers or {})},
        )  # fmt: skip

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


_REPO = r"([\w.-]+/[\w.-]+)"
_ROUTES = (
    (("POST",), "/api/validate-yaml", _Handler.validate_card),
    (("POST",), "/api/repos/create", _Handler.create),
    (("POST",), rf"/api/models/{_REPO}/preupload/(.+)", _Handler.preupload),
    (("POST",), rf"/{_REPO}\.git/info/lfs/objects/batch", _Handler.lfs_batch),
    (("PUT",), "/lfs/([0-9a-f]+)", _Handler.lfs_put),
    (("POST",), "/lfs/([0-9a-f]+)/verify", _Handler.lfs_verify),
    (("POST",), rf"/api/models/{_REPO}/commit/(.+)", _Handler.commit),
    (("GET",), rf"/api/models/{_REPO}", _Handler.info),
    (("GET",), rf"/api/models/{_REPO}/revision/(.+)", _Handler.info),
    (("GET", "HEAD"), rf"/{_REPO}/resolve/([^/]+)/(.+)", _Handler.resolve),
    (("GET", "HEAD"), "/large/([0-9a-f]+)", _Handler.large),
)


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
