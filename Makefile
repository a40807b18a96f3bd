# The only entry point. Per-language work is delegated; anything longer than a few lines is Python.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --warn-undefined-variables --no-builtin-rules
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON := .venv/bin/python
GATEWAY := go-gateway/bin/gateway
HOTPATH := rust-hotpath/target/release/hotpath

.PHONY: help
help: ## This list
	@sed -nE 's/^([a-z][a-z-]*):.*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

## ---- the pieces

.venv/.installed: tests/requirements.txt python-research/pyproject.toml
	python3 -c 'import sys; sys.exit("Python 3.11 or newer is needed") if sys.version_info < (3, 11) else None'
	python3 -m venv --clear .venv
	.venv/bin/pip install --quiet --disable-pip-version-check --require-hashes -r tests/requirements.txt
	.venv/bin/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e python-research
	touch $@

.PHONY: build
build: .venv/.installed ## Build the gateway and the hot path
	cd go-gateway && go build -trimpath -o bin/gateway ./cmd/gateway
	cd rust-hotpath && cargo build --release --locked --quiet
