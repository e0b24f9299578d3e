"""The Prefect server of a run: the configured one when it answers, else one of the run's own.

Prefect's own `SubprocessASGIServer` does less: it blocks until the server is up, outlives a run
that was killed, prints the server's traces to the terminal in place of one line that says why it
did not start, and tries again for ever where the database is damaged.
"""

import atexit
import contextlib
import os
import re
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator

from filelock import FileLock
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

_START_SECONDS = 180.0


def answering() -> str | None:
    """URL of the configured server, if it answers within a second."""
    url = PREFECT_API_URL.value()
    return url if url and _answers(url) else None


@contextlib.contextmanager
def own_server() -> Iterator["OwnServer"]:
    """Make a server of the run's own the configured one for the length of a `with` block.

    Settings and environment both name it, so that the processes of a Dask cluster find it too.
    It starts while other work goes on, and ends with this process.
    """
    server = OwnServer()
    before = os.environ.get("PREFECT_API_URL")
    os.environ["PREFECT_API_URL"] = server.url
    try:
        with temporary_settings(updates={PREFECT_API_URL: server.url}):
            yield server
    finally:
        os.environ.pop("PREFECT_API_URL")
        if before is not None:
            os.environ["PREFECT_API_URL"] = before


class OwnServer:
    """A Prefect server without pages or schedules, in a process that ends with this one.

    Attributes:
        url: of its API.
    """

    def __init__(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/api"
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (it lives as long as the server)
        # A process group of its own: Ctrl-C reaches the run alone, which then still can say so.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "flows.api", str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            process_group=0,
        )
        atexit.register(self.stop)  # by then Prefect has sent its last log lines

    def wait(self) -> None:
        """Until it answers.

        Raises:
            RuntimeError: it ended, or is not up after three minutes.
        """
        began = time.monotonic()
        while not _answers(self.url):
            if self._process.poll() is not None:
                raise RuntimeError(
                    f"the run's own Prefect server ended with code {self._process.returncode}: "
                    f"{self.trouble()}; see what `prefect server start` says"
                )
            if time.monotonic() - began > _START_SECONDS:
                raise RuntimeError(
                    f"the run's own Prefect server did not answer within {_START_SECONDS:.0f} s; "
                    "start one with `make server` and run again"
                )
            time.sleep(0.1)

    def trouble(self) -> str | None:
        """The last exception that the server printed, in one line."""
        self._errors.seek(0)
        printed = self._errors.read().decode(errors="replace")
        raised = re.findall(r"^(?:\w+\.)*(\w+(?:Error|Exception): .+)$", printed, re.MULTILINE)
        return raised[-1] if raised else None

    def stop(self) -> None:
        """End it, and wait until it has ended."""
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _serve(port: str) -> None:
    """Be the server, until the process at the other end of standard input ends, however it does.

    Servers start one after the other: two at once would both make the tables of a new database.
    """
    turn = FileLock(PREFECT_HOME.value() / "own-server.lock", thread_local=False)

    def end_with_parent() -> None:
        sys.stdin.read()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
        os._exit(1)

    def end_turn_once_up() -> None:
        while not _answers(f"http://127.0.0.1:{port}/api"):
            time.sleep(0.1)
        turn.release()

    threading.Thread(target=end_with_parent, daemon=True).start()
    turn.acquire()
    threading.Thread(target=end_turn_once_up, daemon=True).start()
    sys.argv = [
        "prefect", "server", "start", "--host", "127.0.0.1", "--port", port, "--no-ui",
        "--no-scheduler", "--no-late-runs", "--log-level", "ERROR",
    ]  # fmt: skip
    runpy.run_module("prefect", run_name="__main__")


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError, ValueError):
        urllib.request.urlopen(f"{url}/health", timeout=1).close()
        return True
    return False


if __name__ == "__main__":
    _serve(sys.argv[1])
