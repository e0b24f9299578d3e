#!/bin/sh
# The worker: makes the project in its volume on the first start, then serves the deployments.
# PROJECT, DROPS: folders; DVC_REMOTE, DVC_ENDPOINT: where `dvc push` goes.
set -eu
cd "${PROJECT:-/project}"
if [ ! -f params.yaml ]; then
  fmbseg init .
  python - "${DROPS:-/drops}" <<'PYTHON'
import sys
from pathlib import Path

from fmbseg.params_edit import write_params

write_params(Path("params.yaml"), {"data.drops": sys.argv[1]})
PYTHON
  git config user.name "FMbSeg worker"
  git config user.email "worker@localhost"
  if [ -n "${DVC_REMOTE:-}" ]; then
    dvc remote add --force --default store "${DVC_REMOTE}"
    dvc remote modify store endpointurl "${DVC_ENDPOINT}"
  fi
  git add .
  git commit --quiet --message "Project of the worker"
fi
exec python -m flows.serve
