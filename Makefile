# Kibubu's few commands. `make up` and `make test` set up all they need; the second time is quick.
# Python 3.11: the first of python3.11 and python3 that is one.
PYTHON ?= $(shell for p in python3.11 python3; do \
	"$$p" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null && { echo "$$p"; break; }; done)
VENV := .venv
PY := $(VENV)/bin/python
KIBUBU := $(VENV)/bin/kibubu
STAMP := $(VENV)/.kibubu-setup
BENCH ?= --quick
CHAOS ?= --kills 5 --seconds 30
PYTEST ?=

.DEFAULT_GOAL := help
.PHONY: help setup up down test check bench chaos proto lock packages clean

help:  ## show the commands
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(STAMP)  ## the virtual environment with every dependency, pinned and hashed

$(STAMP): requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Kibubu needs Python 3.11; name it: make PYTHON=/path/to/python3.11"; exit 1; }
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

up: setup  ## start three nodes, the fraud sidecar, the USSD edge and Prometheus; print what to try
	$(KIBUBU) up

down: setup  ## stop what `up` started
	$(KIBUBU) down

packages:
	@$(PY) -m cluster.packages

test: setup packages  ## every test
	$(PY) -m pytest $(PYTEST)

check: setup  ## format, lint, types, import directions, stubs fresh
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy node kibubu_client ussd_edge fraud cluster
	$(VENV)/bin/lint-imports
	$(PY) -m pytest -q tests/architecture

bench: setup  ## transfers and payments a second (BENCH="" for every setting)
	$(KIBUBU) bench $(BENCH)

chaos: setup  ## kill -9 the leader under load, then prove that nothing was lost (CHAOS="" for every fault)
	$(KIBUBU) chaos $(CHAOS)

PROTOS = $(shell find proto/kibubu -name '*.proto' | sort)
proto: setup  ## regenerate the stubs under proto/gen
	rm -rf proto/gen/kibubu
	PATH="$(VENV)/bin:$$PATH" $(PY) -m grpc_tools.protoc -I proto --python_out=proto/gen --grpc_python_out=proto/gen --mypy_out=proto/gen --mypy_grpc_out=proto/gen $(PROTOS)

lock:  ## write requirements.lock anew (needs uv)
	uv pip compile --generate-hashes --python-version 3.11 --extra dev --no-header --no-emit-index-url \
		pyproject.toml -o requirements.lock

clean:  ## remove the virtual environment and caches; the cluster's state in .kibubu stays
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
