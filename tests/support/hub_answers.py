"""How the stand-in for a model hub answers; see hub_server.py."""

import base64
import hashlib
import json
import re
import time
from typing import TYPE_CHECKING, Any

import yaml

from tests.support.hub_repository import OWNER, TOKEN, Files, Repository
from tests.support.json_handler import JsonHandler

if TYPE_CHECKING:
    from tests.support.hub_server import HubServer


class HubAnswers(JsonHandler):
    server: "HubServer"

    def _route(self, body: bytes) -> None:
        path = self.path.split("?")[0]
        self.server.asked.append((self.command, path))
        if self.server.down:
            self.close_connection = True
            return
        for method, pattern, answer in ROUTES:
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

    def xet_token(self, body: bytes, repo: str, revision: str) -> None:
        if not self.server.xet:
            self._say(404, {"error": "no xet storage here"})
        elif self._may_write(repo) is not None:
            until = int(time.time()) + 3600
            self._say(200, {"accessToken": "x", "exp": until, "casUrl": self.server.url})

    def xet_block(self, body: bytes, digest: str) -> None:
        self.server.blocks[digest] = body
        self._say(200, {"was_inserted": True})

    def xet_shard(self, body: bytes) -> None:
        self.server.shards.append(body)
        self._say(200, {"result": 1})

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
                missing = f"version of git-lfs\noid sha256:{value['oid']}\n".encode()
                files[value["path"]] = self.server.large.get(value["oid"], missing)
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


_REPO = r"([\w.-]+/[\w.-]+)"
ROUTES = (
    (("POST",), "/api/validate-yaml", HubAnswers.validate_card),
    (("POST",), "/api/repos/create", HubAnswers.create),
    (("POST",), rf"/api/models/{_REPO}/preupload/(.+)", HubAnswers.preupload),
    (("POST",), rf"/{_REPO}\.git/info/lfs/objects/batch", HubAnswers.lfs_batch),
    (("PUT",), "/lfs/([0-9a-f]+)", HubAnswers.lfs_put),
    (("POST",), "/lfs/([0-9a-f]+)/verify", HubAnswers.lfs_verify),
    (("GET",), rf"/api/models/{_REPO}/xet-write-token/(.+)", HubAnswers.xet_token),
    (("POST",), "/v1/xorbs/default/([0-9a-f]+)", HubAnswers.xet_block),
    (("POST",), "/v1/shards", HubAnswers.xet_shard),
    (("POST",), rf"/api/models/{_REPO}/commit/(.+)", HubAnswers.commit),
    (("GET",), rf"/api/models/{_REPO}", HubAnswers.info),
    (("GET",), rf"/api/models/{_REPO}/revision/(.+)", HubAnswers.info),
    (("GET", "HEAD"), rf"/{_REPO}/resolve/([^/]+)/(.+)", HubAnswers.resolve),
    (("GET", "HEAD"), "/large/([0-9a-f]+)", HubAnswers.large),
)
