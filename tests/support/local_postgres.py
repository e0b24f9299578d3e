"""A Postgres server on loopback, for tests; as a user of its own where the tests are root's."""

import contextlib
import glob
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Postgres:
    """Attributes: `port` on loopback; `sockets`: folder of its Unix socket, open to its owner."""

    port: int
    sockets: Path


def postgres_programs() -> Path | None:
    """The folder of initdb and postgres; None where Postgres is not installed."""
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))  # noqa: PTH207
    named = shutil.which("postgres")
    if found:
        return Path(found[-1]).parent
    return None if named is None else Path(named).resolve().parent


def free_port() -> int:
    """A port of loopback that nobody listens on at this moment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def postgres_server(programs: Path) -> Iterator[Postgres]:
    """A fresh server whose administrator `postgres` comes in by its Unix socket alone."""
    owner = pwd.getpwnam("postgres" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name)
    user = owner.pw_name if os.getuid() == 0 else None
    folder = Path(tempfile.mkdtemp(prefix="fmbseg-postgres-"))
    os.chown(folder, owner.pw_uid, owner.pw_gid)
    folder.chmod(0o755)
    try:
        subprocess.run(
            [programs / "initdb", "--pgdata", folder / "data", "--username", "postgres",
             "--auth-local", "trust", "--auth-host", "scram-sha-256", "--no-sync"],
            check=True, capture_output=True, user=user, cwd=folder,
        )  # fmt: skip
        port = free_port()
        server = subprocess.Popen(
            [programs / "postgres", "-D", folder / "data", "-p", str(port), "-k", folder,
             "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"],
            user=user, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            yield Postgres(port, folder)
        finally:
            server.terminate()
            server.wait(60)
    finally:
        shutil.rmtree(folder)
