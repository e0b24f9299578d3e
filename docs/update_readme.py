"""Write the last run's figures between the markers of README.md. Run by `make readme`."""

from pathlib import Path

from fmbseg.steps.figures import markdown_table
from fmbseg.steps.workspace import Workspace
from studies.page import put_block


def main() -> None:
    """Put the table between the markers."""
    table = markdown_table(Workspace.open("."))
    put_block(Path("README.md"), "figures", table)
    print(table)


if __name__ == "__main__":
    main()
