"""Pages of the web site that do not lie in docs/: a hook named in mkdocs.yml.

For `python -m mkdocs build` in the root: `mkdocs` alone does not see the package `scripts`.
"""

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from scripts.notebook_pages import page_of

PAGES = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}
"""Page of the site to file of the repository."""
NOTEBOOKS = "docs/notebooks"
_LINK = re.compile(r"\[([^]]+)\]\(([^)#:]+)(#[^)]*)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages; called by MkDocs once the files of docs/ are known."""
    root = Path(config.config_file_path).parent
    for page, source in PAGES.items():
        text = _LINK.sub(_on_the_site, (root / source).read_text())
        files.append(File.generated(config, page, content=text))
    for notebook in sorted((root / NOTEBOOKS).glob("*.ipynb")):
        files.append(File.generated(config, f"{notebook.stem}.md", content=page_of(notebook)))
    return files


def _on_the_site(link: re.Match[str]) -> str:
    """A link into docs/ as seen from there; of one to other files its text alone."""
    text, target, anchor = link.groups()
    if target.startswith(f"{NOTEBOOKS}/"):
        return f"[{text}]({Path(target).stem}.md)"
    if target.startswith("docs/"):
        return f"[{text}]({target.removeprefix('docs/')}{anchor or ''})"
    page = next((page for page, source in PAGES.items() if source == target), None)
    return f"[{text}]({page})" if page else text
