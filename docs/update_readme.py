"""Write the last run's figures between the markers of README.md. Run by `make readme`."""

import re
from pathlib import Path

from fmbseg.steps.figures import markdown_table
from fmbseg.steps.workspace import Workspace

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def main() -> None:
    """Put the table between the markers."""
    readme = Path("README.md")
    table = markdown_table(Workspace.open("."))
    text, found = re.subn(
        f"{re.escape(BEGIN)}.*?{re.escape(END)}",
        lambda _: f"{BEGIN}\n{table}\n{END}",
        readme.read_text(),
        flags=re.DOTALL,
    )
    if found != 1:
        raise SystemExit(f"README.md: found {found} blocks {BEGIN} ... {END}; wanted one")
    readme.write_text(text)
    print(table)


if __name__ == "__main__":
    main()
