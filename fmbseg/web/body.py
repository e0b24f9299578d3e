"""Reading what a client sends, up to a limit."""

from fastapi import Request


class BodyTooLargeError(ValueError):
    """A client sends more than is taken."""


async def read_body(request: Request, most_bytes: int) -> bytes:
    """The whole body of a request.

    Nothing is read of a body whose announced length is too large already.

    Args:
        request: of a client.
        most_bytes: more are refused as soon as they come.

    Raises:
        BodyTooLargeError: found more.
        ClientDisconnect: the client has gone before its end.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > most_bytes:
        raise BodyTooLargeError(f"wanted at most {most_bytes} bytes")
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most_bytes:
            raise BodyTooLargeError(f"wanted at most {most_bytes} bytes")
    return bytes(body)
