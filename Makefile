# `make run` and `make test` are all the set-up there is: each makes the environment it needs.
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DOCS_READY := $(VENV)/.docs-ready
NOTEBOOKS_READY := $(VENV)/.notebooks-ready

# No step here may fetch models or data behind the user's back, and no server listens beyond loopback.
export HF_HUB_OFFLINE ?= 1
export DO_NOT_TRACK := 1
export MLFLOW_DISABLE_TELEMETRY := true
export PREFECT_SERVER_ANALYTICS_ENABLED := false

# The environment is installed without bytecode: who may not keep it compiles every import anew.
unexport PYTHONDONTWRITEBYTECODE

OUTPUTS := data/download data/pseudo_masks data/subsample models reports exports runs .scratch \
  .prefect-results mlflow.db mlartifacts
# Of what stages read `dvc exp show` has columns of hashes.
HASHES := (fmbseg$$|requirements.txt$$|data/|models/|reports/)

.DEFAULT_GOAL := help
.PHONY: help run smoke server serve test check wheel-check hooks docs notebooks e2e table ablations benchmarks bench bench-gpu bench-orchestration mlflow experiments clean clean-all lock readme

help:  ## show this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 21

$(READY): requirements.lock pyproject.toml
	@echo "==> environment: $(VENV), packages from requirements.lock (a few minutes, once)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "FMbSeg wants Python 3.11 or newer, found %d.%d; set PYTHON=" % sys.version_info[:2])'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check --progress-bar on --no-compile -r requirements.lock -c requirements.lock \
	  | grep -vE '^(Ignoring|Requirement already|Looking in)' | sed -uE 's/^(Installing collected packages).*/\1 .../; /^Successfully installed/s/^(.{100}).*/\1 .../'; \
	  exit $${PIPESTATUS[0]}
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e . 2>/dev/null \
	  || $(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps -e .
	@touch $@

run: $(READY)  ## the whole pipeline; IMAGES= CLASSES= [LABELS= IGNORE= PROFILE= WORKSPACE=] for your own photographs
	@$(BIN)/python -m flows.run $(if $(IMAGES),--images "$(IMAGES)") $(if $(CLASSES),--classes "$(CLASSES)") \
	  $(if $(LABELS),--labels "$(LABELS)") $(if $(IGNORE),--ignore-label "$(IGNORE)") \
	  $(if $(PROFILE),--profile "$(PROFILE)") $(if $(WORKSPACE),--workspace "$(WORKSPACE)") \
	  $(if $(RESET_PARAMS),--reset-params)

smoke: $(READY)  ## the whole pipeline on a quarter of the miniature's images, from nothing, in runs/smoke
	@rm -rf runs/smoke && mkdir -p runs/smoke
	@sed 's/^  train_images: 600 /  train_images: 150 /' params.yaml >runs/smoke/params.yaml
	@$(BIN)/python -m flows.run --workspace runs/smoke

server: $(READY)  ## Prefect's server and pages at http://127.0.0.1:4200
	@$(BIN)/python -m prefect server start

serve: $(READY)  ## run on request and watch data/drops, with a server up: prefect deployment run fmbseg/full --watch
	@$(BIN)/python -m flows.serve

test: $(READY)  ## all tests but the long end-to-end ones
	@$(BIN)/python -m pytest -m "not e2e and not gpu" -n 2 --dist loadfile --no-loadscope-reorder

check: $(READY)  ## style, types, imports
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

wheel-check: $(READY)  ## the package as others have it: build the wheel, install it elsewhere, use it
	@$(BIN)/python -m scripts.check_wheel

hooks: $(READY)  ## have `git commit` run style, types and imports on what it holds (pre-commit)
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet pre-commit -c requirements.lock
	@$(BIN)/pre-commit install

$(DOCS_READY) $(NOTEBOOKS_READY): $(VENV)/.%-ready: $(READY) pyproject.toml
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["$*"], sep="\n")' >$@.part
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet -r $@.part -c requirements.lock
	@mv $@.part $@

docs: $(DOCS_READY)  ## the documentation as a web site in site/; any broken link is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@! grep -rnoE '<(script|img|iframe|link)[^>]* (src|href)="?(https?:)?//[^>]*' site --include='*.html' \
	  || { echo "site/ loads files from other servers (above); ship them, or leave them out"; exit 1; }
	@echo "site/index.html"

notebooks: $(NOTEBOOKS_READY)  ## run the notebooks of docs/notebooks anew and store what they show
	@$(BIN)/python -m scripts.make_notebooks

e2e: $(NOTEBOOKS_READY)  ## the whole system, slowly
	@$(BIN)/python -m pytest -m e2e

table: $(READY)  ## every method on five views of the miniature, three seeds; writes docs/miniature.md
	@$(BIN)/python -m studies.table

ablations: $(READY)  ## one setting after the other on the validation split; writes docs/ablations.md
	@$(BIN)/python -m studies.ablations

benchmarks: $(READY)  ## the paper's table: download, run, score; DATA_SETS="voc21 ade150" ZIPS= WORKSPACE=runs/paper
	@$(BIN)/python -m flows.benchmarks $(DATA_SETS) $(if $(ZIPS),--zips "$(ZIPS)") $(if $(WORKSPACE),--workspace "$(WORKSPACE)")

bench-orchestration: $(READY)  ## what Prefect, MLflow and DVC cost, on an idle machine; SIZE=small|default PAIRS=3
	@$(BIN)/python -m benchmarks.orchestration $(if $(SIZE),--size $(SIZE)) $(if $(PAIRS),--pairs $(PAIRS))

bench-gpu: $(READY)  ## every stage on a GPU: speed, memory, half precision against float32; DEVICE=cuda QUICK=
	@$(BIN)/python -m benchmarks.gpu --device $(or $(DEVICE),cuda) $(if $(QUICK),--quick)

bench: $(READY)  ## hot paths against the stock way and their floor; ONLY="miou loss", WRITE=1 into docs/performance.md
	@$(BIN)/python -m benchmarks $(ONLY) $(if $(WRITE),--write)

mlflow: $(READY)  ## browse runs at http://127.0.0.1:5000, the champion beside the challenger first; PORT= OPEN=0
	@$(BIN)/python -m tasks.tracking.show $(if $(PORT),--port "$(PORT)") $(if $(filter 0,$(OPEN)),--no-open)

experiments: $(READY)  ## DVC's experiments as a narrow table: what was changed, and the figures
	@$(BIN)/python -m dvc exp show --only-changed --drop '$(HASHES)'

readme: $(READY)  ## train two more seeds on the last run's masks, write its figures into README.md
	@$(BIN)/python -m scripts.update_readme

lock: $(READY)  ## write requirements.lock; versions stay unless UPGRADE=1
	@$(BIN)/python -m scripts.make_lock $(if $(UPGRADE),--upgrade)

clean:  ## remove the miniature's outputs; keeps runs/, mlflow.db, environment, data/drops, data/corrections
	rm -rf data/download data/pseudo_masks data/subsample models reports .scratch .prefect-results

clean-all:  ## remove runs/ and mlflow.db too; asks first, or YES=1
	@echo "This deletes all outputs, with the runs of your own photographs and what MLflow keeps:"
	@du -sh $(OUTPUTS) 2>/dev/null || true
	@if [ "$(YES)" != 1 ]; then \
	  if [ ! -t 0 ]; then echo "Nothing was deleted: no terminal to ask at; YES=1 does it"; exit 1; fi; \
	  read -r -p "Delete? [y/N] " answer; \
	  case "$$answer" in y|Y|yes) ;; *) echo "Nothing was deleted"; exit 1;; esac; \
	fi
	rm -rf $(OUTPUTS)
