"""`fetch`: a file from the first address that gives it, resumed, checked, renamed at the end."""

import os
import sys
import time
from pathlib import Path

from fmbseg.datasets.entry import Remote
from fmbseg.fetch.checksums import Record, check, set_aside
from fmbseg.fetch.remote import DownloadError, locked, require_online, shown
from fmbseg.fetch.transfer import (
    AddressError,
    InterruptedTransferError,
    Session,
    forget,
    transfer,
)
from fmbseg.store import human_bytes
from fmbseg.store.flush import flush_file

ATTEMPTS = 5
"""At one address without getting further; an attempt that does is not counted."""
BACK_OFF_S = 1.0
"""Before the second attempt; doubled for each further one, up to a minute."""

_LONGEST_WAIT_S = 60.0
_STEP_BYTES = 2**20


def fetch(remote: Remote, file: str | Path) -> Record:
    """Download a file, check it and put it in place.

    A file that is there already is checked and left alone, without any network. Otherwise it is
    written to `<file>.part` and renamed when it is whole and good, so a cut or killed download
    goes on where it was and `file` is never a part of one. `<file>.json` records size and
    SHA-256; where no checksum is published, later downloads are compared with that.

    Args:
        remote: addresses, size and checksums.
        file: target.

    Returns:
        The record.

    Raises:
        DownloadError: offline, no address gives the file, or it has another checksum; what was
            fetched of a file that is not the one wanted lies in `<file>.bad`.
        DiskFullError: no room; what was fetched is kept for the next run.
    """
    file = Path(file)
    with locked(file.with_name(f"{file.name}.lock"), file.name):
        if file.is_file():
            try:
                return check(file, remote, file)
            except DownloadError as error:
                print(f"{error}; kept as {set_aside(file, file)}", file=sys.stderr)
        require_online(file.name)
        failures: list[str] = []
        with Session() as session:
            for url in remote.urls:
                try:
                    return _from(session, url, file, remote)
                except AddressError as error:
                    failures.append(f"{shown(url)} {error}")
    tried = "; ".join(failures)
    raise DownloadError(
        f"{file.name}: no address gives it: {tried}. Run again later, or fetch it by hand and put "
        f"it at {file}"
    )


def _from(session: Session, url: str, file: Path, remote: Remote) -> Record:
    """Fetch from one address, trying again; `AddressError` when it does not give the file."""
    part = file.with_name(f"{file.name}.part")
    failed, best = 0, _size(part)
    while True:
        try:
            transfer(session, url, part, remote)
            break
        except InterruptedTransferError as error:
            reached = _size(part)
            failed = 1 if reached >= best + _STEP_BYTES else failed + 1
            best = max(best, reached)
            if failed >= ATTEMPTS:
                kept = f" ({human_bytes(reached)} are kept and gone on with)" if reached else ""
                raise AddressError(f"{error}, {ATTEMPTS} times{kept}") from None
            time.sleep(min(_LONGEST_WAIT_S, max(error.wait_s, BACK_OFF_S * 2 ** (failed - 1))))
    try:
        record = check(part, remote, file, url)
    except DownloadError as error:
        bad = set_aside(part, file)
        forget(part)
        reason = str(error).removeprefix(f"{file.name}: ")
        raise AddressError(f"gave another file: {reason} (kept as {bad.name})") from None
    flush_file(part)
    os.replace(part, file)
    forget(part)
    return record


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
