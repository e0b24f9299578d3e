"""Flows. Each process of one starts offline, without telemetry: set before prefect is loaded."""

import os

from fmbseg.allocator import keep_memory
from fmbseg.garbage import search_rarely

for _name, _value in {
    "DASK_LOGGING__DISTRIBUTED": "warning",
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}.items():
    os.environ.setdefault(_name, _value)

keep_memory()  # before threads begin
search_rarely()
