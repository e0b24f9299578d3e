"""`python -m tasks.tracking [WORKSPACE]`: log what `dvc repro` or `dvc exp run` left.

It needs no flow and no server of Prefect.
"""

import argparse
import logging
import sys

from fmbseg.params import ParamsError, redact
from fmbseg.steps import plan
from fmbseg.steps.workspace import Workspace
from tasks.tracking import tracker


def main() -> int:
    """Log one workspace from the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m tasks.tracking",
        description="Log the finished outputs of a workspace to MLflow.",
    )
    parser.add_argument("workspace", nargs="?", default=".", help="folder with params.yaml")
    root = parser.parse_args().workspace
    logging.basicConfig(format="tracking: %(message)s")
    logging.getLogger("tasks").setLevel(logging.INFO)
    try:
        workspace = Workspace.open(root)
        if found := plan.problem(workspace):
            raise ParamsError(f"{found}; finish the outputs first, with `dvc repro` or `make run`")
        run = tracker.log_state(root)
    except Exception as error:
        print(f"tracking: {redact(' '.join(str(error).split()))}", file=sys.stderr)
        return 1
    print(f"tracking: run {run} in {redact(tracker.store_uri(workspace))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
