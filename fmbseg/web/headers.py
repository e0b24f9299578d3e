"""What every answer of our servers carries, so that a browser does nothing unforeseen with it."""

from collections.abc import Mapping

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""For any answer; a page adds its own Content-Security-Policy."""
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
"""Names of this machine: a request that calls it otherwise was led here by somebody else's DNS."""


class Headers:
    """ASGI middleware: adds headers to the answers that do not have them."""

    def __init__(self, app: ASGIApp, headers: Mapping[str, str]) -> None:
        """Wrap an application."""
        self._app, self._headers = app, headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                found = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    found.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, sent)
