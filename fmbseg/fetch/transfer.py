"""One HTTP request: the bytes of a file, or those that a cut download still lacks."""

import contextlib
import hashlib
import re
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from fmbseg.datasets.entry import Remote
from fmbseg.progress import progress as progress_of
from fmbseg.store import (
    StoreError,
    explain_full_disk,
    human_bytes,
    read_json,
    require_space,
    write_json,
)

TIMEOUTS_S = (15.0, 60.0)
"""To connect, and between two pieces of data."""
MAX_REDIRECTS = 5
_CHUNK_BYTES = 2**18
_TRY_AGAIN = {408, 425, 429, 500, 502, 503, 504}
_WORDS = {
    401: "wants a login",
    403: "refuses access",
    404: "has no such file",
    410: "has no such file any more",
}


class AddressError(Exception):
    """This address does not give the file; another may."""


class InterruptedTransferError(Exception):
    """It broke off; the same address may go on.

    Attributes:
        wait_s: how long the server asks to wait.
    """

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class Session(requests.Session):
    """A session that follows few redirects, and none from https to http."""

    def __init__(self) -> None:
        super().__init__()
        self.max_redirects = MAX_REDIRECTS
        self.headers["Accept-Encoding"] = "identity"
        self.headers["User-Agent"] = "fmbseg"

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Where a response sends us; refuses to leave https for http."""
        target = super().get_redirect_target(resp)
        if target and urlsplit(resp.url).scheme == "https":
            scheme = urlsplit(urljoin(resp.url, target)).scheme
            if scheme != "https":
                raise AddressError(f"redirects from https to {scheme}, which is refused")
        return target


def transfer(session: Session, url: str, part: Path, remote: Remote) -> None:
    """Write what `part` still lacks, or all of it where the server cannot go on.

    A cut download is resumed only where the server says that the file is still the same (If-Range
    with its ETag or date), or where a published checksum will show it in the end.

    Args:
        session: reuses the connection for further attempts.
        url: address of the file.
        part: the file so far; `<part>.json` beside it says what it is a part of.
        remote: what is known of the file.

    Raises:
        AddressError: this address does not give the file.
        InterruptedTransferError: try again.
        DiskFullError: no room.
    """
    begun = _Begun.read(part)
    headers = begun.headers(url, remote)
    if headers and begun.offset == begun.total:
        return
    with _explained():
        response = session.get(url, headers=headers, stream=True, timeout=TIMEOUTS_S)
    with contextlib.closing(response):
        start, total = _accepted(response, url, begun if headers else _Begun(), part)
        if remote.size_bytes is not None and total not in (None, remote.size_bytes):
            raise AddressError(f"has a file of {total} bytes; wanted {remote.size_bytes}")
        what = part.name.removesuffix(".part")
        if start == 0:
            forget(part)
            validator = _validator(response)
            facts = {"total": total, "address": _address(url), "validator": validator}
            write_json(_facts(part), facts)
        require_space(part.parent, (total or remote.about_bytes or 0) - start, what)
        step = progress_of(what, total=total, initial=start, unit="B")
        with (
            explain_full_disk(what, part.parent),
            part.open("ab") as out,
            step as done,
            _explained(),
        ):
            for chunk in response.raw.stream(_CHUNK_BYTES, decode_content=False):
                out.write(chunk)
                done.update(len(chunk))
                if remote.size_bytes is not None and out.tell() > remote.size_bytes:
                    raise AddressError(f"has a file of more than {remote.size_bytes} bytes")
    size = part.stat().st_size
    if total is not None and size != total:
        raise InterruptedTransferError(f"ended after {human_bytes(size)} of {human_bytes(total)}")


@dataclass(frozen=True)
class _Begun:
    """Which file a part belongs to, as the response said that brought its first byte."""

    offset: int = 0
    total: int | None = None
    address: str = ""
    validator: str = ""

    @staticmethod
    def read(part: Path) -> "_Begun":
        try:
            return _Begun(part.stat().st_size, **read_json(_facts(part)))
        except (StoreError, OSError, TypeError):
            return _Begun()

    def headers(self, url: str, remote: Remote) -> dict[str, str]:
        """How to ask for the rest; empty when it has to be fetched anew."""
        if self.offset == 0 or (self.total is not None and self.offset > self.total):
            return {}
        wanted = {"Range": f"bytes={self.offset}-"}
        if self.validator and self.address == _address(url):
            return wanted | {"If-Range": self.validator}
        return wanted if remote.has_checksum else {}


def forget(part: Path) -> None:
    """Remove a part and what is known of it."""
    part.unlink(missing_ok=True)
    _facts(part).unlink(missing_ok=True)


def _facts(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _address(url: str) -> str:
    """Tells addresses apart without keeping what may be secret in them."""
    return hashlib.sha256(url.encode()).hexdigest()


def _validator(response: requests.Response) -> str:
    """A strong ETag, else the date; a weak ETag does not vouch for bytes."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "")


def _accepted(
    response: requests.Response, url: str, begun: _Begun, part: Path
) -> tuple[int, int | None]:
    """First byte that the response brings and size of the whole file, where it is told."""
    status, headers = response.status_code, response.headers
    if status in _TRY_AGAIN:
        wait = headers.get("Retry-After", "")
        raise InterruptedTransferError(
            f"answered with status {status}", float(wait) if wait.isdigit() else 0.0
        )
    if status == 416 or (status == 206 and not begun.offset):
        forget(part)
        raise InterruptedTransferError(f"answered with status {status} to what was asked for")
    if status == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", ""))
        total = int(found[2]) if found and found[2] != "*" else begun.total
        changed = begun.total not in (None, total) or (
            begun.address == _address(url) and _validator(response) not in ("", begun.validator)
        )
        if not found or int(found[1]) != begun.offset or changed:
            forget(part)
            raise InterruptedTransferError("sent a part of another file than was begun with")
        return begun.offset, total
    if status != 200:
        raise AddressError(_WORDS.get(status, f"answered with status {status}"))
    if "html" in headers.get("Content-Type", "") and not part.name.endswith(".html.part"):
        raise AddressError("answered with a web page in place of the file")
    length = headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """What went wrong on the network, in words without the address."""
    try:
        yield
    except requests.TooManyRedirects:
        raise AddressError(f"redirects more than {MAX_REDIRECTS} times") from None
    except requests.exceptions.SSLError:
        raise AddressError("shows a certificate that is not accepted") from None
    except ValueError:  # among them requests' own, of schemes and hosts
        raise AddressError("is or leads to no http or https address") from None
    except (requests.ConnectTimeout, urllib3.exceptions.ConnectTimeoutError):
        raise InterruptedTransferError("cannot be reached in time") from None
    except (requests.ReadTimeout, urllib3.exceptions.ReadTimeoutError):
        raise InterruptedTransferError("sends nothing any more") from None
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise InterruptedTransferError(_cause(error)) from None


def _cause(error: BaseException) -> str:
    """The system's own words at the root of a broken connection."""
    seen: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in seen:
        seen.append(current)
        if isinstance(current, urllib3.exceptions.IncompleteRead):
            return "ended before the file did"
        if isinstance(current, socket.gaierror):
            return "has a host name that cannot be resolved"
        if isinstance(current, ConnectionError | TimeoutError) and current.strerror:
            return f"broke the connection ({current.strerror})"
        inner = [one for one in current.args if isinstance(one, BaseException)]
        reason = getattr(current, "reason", None)
        inner += [reason] if isinstance(reason, BaseException) else []
        current = inner[0] if inner else current.__cause__ or current.__context__
    return "broke the connection"
