"""Write the last run's figures between the markers of README.md. Run by `make readme`.

The trained method is trained and scored with two more seeds on the run's own masks; its row is the
mean of the three.
"""

import sys
from pathlib import Path

from fmbseg.methods.table import OURS
from fmbseg.steps.figures import markdown_table
from fmbseg.steps.workspace import Workspace
from studies import seeds
from studies.cells import CellError
from studies.page import put_block

SEEDS, WORDS = 3, "three"


def main() -> int:
    """Put the table between the markers."""
    try:
        again = seeds.again(Path(), SEEDS)
    except (seeds.NotRunError, CellError) as error:
        print(f"readme: {error}", file=sys.stderr)
        return 1
    table = (
        f"{markdown_table(Workspace.open('.'), again=again)}\n"
        f"`{OURS}`: mean ± half the range of {WORDS} seeds of the training (first weights, "
        "order, draws) on the same images and pseudo masks; the other rows train nothing and do "
        "not depend on it."
    )
    put_block(Path("README.md"), "figures", table)
    print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
