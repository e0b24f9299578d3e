"""MLflow as the tracker: what `tasks.tracking` asks of one.

Another tracker is a package beside this one with the same names, and one line of
`tasks/tracking/__init__.py`.
"""

from tasks.tracking.mlflow_client.complete import log_state
from tasks.tracking.mlflow_client.links import run_links
from tasks.tracking.mlflow_client.pages import opening_page, server_of
from tasks.tracking.mlflow_client.registry import fetch_champion
from tasks.tracking.mlflow_client.store import connect, is_transient, store_file, store_uri
from tasks.tracking.mlflow_client.system import system_metrics
from tasks.tracking.mlflow_client.training import training_log
