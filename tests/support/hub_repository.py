"""What the stand-in for a model hub holds; see hub_server.py."""

import hashlib
from dataclasses import dataclass, field

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
