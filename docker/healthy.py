"""Health checks of the containers: `healthy.py URL`, or `healthy.py worker`; exit code 0 or 1."""

import os
import sys
import urllib.request
from pathlib import Path


def main(what: str) -> int:
    """Ask an address, or whether the worker lives and Prefect knows what it serves."""
    try:
        if what == "worker":
            project = Path(os.environ.get("PROJECT", "/project"))
            os.kill(int((project / ".scratch" / "serve.lock").read_text()), 0)
            what = f"{os.environ['PREFECT_API_URL']}/deployments/name/fmbseg/full"
        with urllib.request.urlopen(what, timeout=8) as answer:
            return 0 if answer.status == 200 else 1
    except (OSError, ValueError, KeyError) as error:
        print(f"{what}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
