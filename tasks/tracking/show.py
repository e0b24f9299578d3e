"""`python -m tasks.tracking.show`, which is `make mlflow`: MLflow's pages, on what matters first.

They open on the champion beside the challenger. A server that `tracking.uri` names is looked at;
for a database one is started, on loopback, which ends with this command.
"""

import argparse
import contextlib
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import webbrowser
from types import FrameType

from fmbseg.params import redact
from fmbseg.steps.workspace import Workspace
from tasks.tracking import tracker

_UP_WITHIN_S = 180.0


def main() -> int:
    """Read the arguments, show the pages; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tasks.tracking.show", description=str(__doc__).splitlines()[0]
    )
    parser.add_argument("workspace", nargs="?", default=".", help="folder with params.yaml")
    parser.add_argument("--port", type=int, default=5000, help="of the pages; 5000 by default")
    parser.add_argument("--no-open", action="store_true", help="print the address, open no browser")
    arguments = parser.parse_args()
    try:
        workspace = Workspace.open(arguments.workspace)
        return _show(workspace, arguments.port, opens=not arguments.no_open)
    except Exception as error:
        print(f"mlflow: {redact(' '.join(str(error).split()))}", file=sys.stderr)
        return 1


def _show(workspace: Workspace, port: int, *, opens: bool) -> int:
    uri = tracker.store_uri(workspace)
    server = uri.rstrip("/") if uri.startswith(("http://", "https://")) else None
    if server is None and _taken(port):
        raise OSError(
            f"port {port} of 127.0.0.1 is taken, perhaps by MLflow's pages of another terminal; "
            "end that, or name another one: make mlflow PORT=5001"
        )
    page = tracker.opening_page(workspace)
    if server is not None:
        _point_to(f"{server}/{page.fragment}", page.shows, opens=opens)
        return 0
    command, environment = tracker.server_of(uri, port)
    with subprocess.Popen(command, env=dict(environment)) as running:
        signal.signal(signal.SIGTERM, _as_interrupt)
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_for(f"{address}/health", running)
            _point_to(f"{address}/{page.fragment}", page.shows, opens=opens)
            return running.wait()
        except KeyboardInterrupt:
            return 0
        finally:
            running.terminate()


def _point_to(address: str, shows: str, *, opens: bool) -> None:
    print(f"mlflow: {redact(address)}\nmlflow: shows {shows}", flush=True)
    if opens:
        with contextlib.suppress(webbrowser.Error):
            webbrowser.open(address)


def _wait_for(health: str, running: "subprocess.Popen[bytes]") -> None:
    """Until the server answers.

    Raises:
        OSError: it ended, or did not come up.
    """
    deadline = time.monotonic() + _UP_WITHIN_S
    while True:
        with contextlib.suppress(urllib.error.URLError, OSError):
            urllib.request.urlopen(health, timeout=5).close()
            return
        if running.poll() is not None:
            raise OSError(f"MLflow's server ended (exit code {running.returncode}); see above")
        if time.monotonic() > deadline:
            raise OSError(f"MLflow's server did not answer within {_UP_WITHIN_S:.0f} s")
        time.sleep(0.2)


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
