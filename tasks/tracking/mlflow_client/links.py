"""Addresses of a run in MLflow's web pages, which Prefect's pages link to."""

import shlex
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from sqlalchemy.engine import make_url

from fmbseg.params import redact
from fmbseg.steps.workspace import Workspace
from tasks.tracking.facts import RunLinks
from tasks.tracking.mlflow_client.store import RetryingClient, home_of, store_uri

_LOCAL = "http://127.0.0.1:5000"
"""Where `make mlflow` serves the database file."""


def run_links(root: str, run: str) -> RunLinks:
    """Addresses of a run's pages.

    Args:
        root: the workspace.
        run: id of the MLflow run.
    """
    uri = store_uri(Workspace.open(root))
    server, first = _server(uri)
    if server is None:
        return RunLinks(None, None, "")
    experiment = RetryingClient(uri).get_run(run).info.experiment_id
    page = f"{server}/#/experiments/{experiment}/runs/{run}"
    return RunLinks(page, f"{page}/artifacts/report/index.html", first)


def _server(uri: str) -> tuple[str | None, str]:
    """Address of the server of a store's pages, and the command that starts it."""
    parts = urlsplit(uri)
    if parts.scheme in ("http", "https"):
        bare = parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="")
        return urlunsplit(bare).rstrip("/"), ""
    if not uri.startswith(("sqlite", "postgresql", "mysql", "mssql")):
        return None, ""
    file = make_url(uri).database or ""
    if uri.startswith("sqlite") and Path(file) == home_of(Path.cwd()) / "mlflow.db":
        return _LOCAL, "make mlflow"
    return _LOCAL, f"mlflow ui --backend-store-uri {shlex.quote(redact(uri))}"
