"""What a client is told when its request is not answered."""

from collections.abc import Mapping


class RefusedError(Exception):
    """A request is refused.

    Attributes:
        status: of HTTP.
        told: the body of the answer: `problem`, `found` and `wanted`, a short line each.
        headers: of the answer.
    """

    def __init__(
        self, status: int, problem: str, found: str, wanted: str,
        headers: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(f"{problem}: found {found}; wanted {wanted}")
        self.status, self.headers = status, dict(headers or {})
        self.told = {"problem": problem, "found": found, "wanted": wanted}
