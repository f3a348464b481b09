# Kibubu's few commands. `make up` and `make test` set up all they need.
PYTHON ?= python3.11
VENV := .venv
PY := $(VENV)/bin/python

.DEFAULT_GOAL := help
.PHONY: help setup up down test check bench chaos proto lock clean

help:  ## show the commands
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

PROTOS := $(shell find proto/kibubu -name '*.proto')
proto:  ## regenerate the stubs under proto/gen
	rm -rf proto/gen/kibubu
	PATH="$(VENV)/bin:$$PATH" $(PY) -m grpc_tools.protoc -I proto --python_out=proto/gen --grpc_python_out=proto/gen --mypy_out=proto/gen --mypy_grpc_out=proto/gen $(PROTOS)
