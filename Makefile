# The only entry point. Per-language work is delegated; anything longer than a few lines is Python.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
MAKEFLAGS += --warn-undefined-variables --no-builtin-rules
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

ifneq ($(words $(CURDIR)),1)
$(error The path "$(CURDIR)" has a space, which make cannot work with: move the clone elsewhere)
endif

# This machine itself is never asked through a proxy.
NO_PROXY ?=
no_proxy ?= $(NO_PROXY)
comma := ,
export NO_PROXY := $(if $(no_proxy),$(no_proxy)$(comma))127.0.0.1,localhost,::1
export no_proxy := $(NO_PROXY)

# What makes the virtual environment: PYTHON=python3.12 make demo
PYTHON ?= python3
BIN := $(CURDIR)/.venv/bin
GATEWAY := go-gateway/bin/gateway
# The gateway, and commands that are modules of their own because of what they bring along.
GO_MODULES := $(patsubst %/go.mod,%,$(wildcard go-gateway/go.mod go-gateway/cmd/*/go.mod))
HOTPATH := rust-hotpath/target/release/hotpath
# Our own operators, as Python loads them.
KERNELS := rust-hotpath/target/release/libhotpath_kernels_ort.$(if $(filter Darwin,$(shell uname -s)),dylib,so)
IN_TESTS := cd tests && PYTHONPATH=. $(BIN)/python -m
# What the end-to-end tests drive: native, compose or url (.run/stack.json).
STACK ?= native
# How long `make soak` lasts, in seconds.
SOAK_S ?= 3600
# How many clients go away before they have their reply.
SOAK_ABORTS ?= 100000
# How many processes it kills, stops or cuts off in a batch, on each database.
SOAK_FAULTS ?= 20
# How many processes the gateway's own tests kill in it: each that kills at random, on each database.
SOAK_KILLS ?= 30
# How long `make fuzz` tries each target.
FUZZTIME ?= 10s
# Which part `make bench` measures; empty: all.
ONLY ?=
NAME ?=
GO_MODULE ?=

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z][a-z0-9-]*:.*## / {printf "  make %-19s%s\n", $$1, $$2}' $(MAKEFILE_LIST)

# ---- use it

.PHONY: doctor
doctor: ## What this machine has of what is needed, and what is missing
	@$(PYTHON) tests/repo/doctor.py

.PHONY: demo
demo: doctor build models ## Build all, make the models, start, and show a request on its way (Ctrl-C stops)
	@$(IN_TESTS) stack demo

.PHONY: run
run: build models ## Start natively and stay up; .run/stack.json says where (PORT=… GRPC_PORT=…)
	@$(IN_TESTS) stack run

# What images are built from.
IMAGE_OF = IMAGE_VERSION=$$(git describe --always --dirty --tags || true) IMAGE_REVISION=$$(git rev-parse HEAD || true)

.PHONY: up
up: ## Start in containers (Docker with Compose v2; nothing else is needed)
	$(IMAGE_OF) docker compose up --build --detach --wait
	docker compose logs --no-log-prefix keys

.PHONY: images
images: ## Build every image: what `make up` starts, and consumer, embed, collector and operator
	$(IMAGE_OF) docker compose --file deploy/compose.yaml --profile '*' build
	docker build --file deploy/operator.Dockerfile --tag triptych-operator .

.PHONY: down
down: ## Stop the containers; the volumes stay, and with them keys and models
	docker compose down

# ---- prove it

.PHONY: test
test: build embed consumer collector operator models ## Every test: unit tests of three languages, contract, repository, end to end
	cd python-research && $(BIN)/python -m pytest
	for module in $(GO_MODULES); do (cd $$module && go test -race ./...); done
	cd go-gateway/cmd/collector && go test .
	cd rust-hotpath && cargo test --locked --workspace
	$(IN_TESTS) pytest

# A processor with AVX2 and nothing newer. It is slow: tests that are marked `bits`, or named so, have tiny models.
EMULATOR := qemu-x86_64 -cpu Haswell
EMULATED = TRIPTYCH_EMULATED=x86 TRIPTYCH_EMULATOR="$(EMULATOR)"
# No emulator has AVX-512: this machine's processor, with what is newer hidden from programs.
HIDE_VNNI := env HIDE_CPUID=vnni LD_PRELOAD=$(CURDIR)/.cache/hide_cpuid.so

.PHONY: test-avx2
test-avx2: build models ## The tests of numbers' last bits, on an emulated processor with AVX2 alone (needs qemu-user)
	@if [[ $$(uname -sm) != 'Linux x86_64' ]] || ! command -v $(firstword $(EMULATOR)) > /dev/null; then \
	  echo 'test-avx2: NOT RUN: it needs Linux on x86-64, and $(firstword $(EMULATOR)) (Debian: apt-get install qemu-user)' >&2; \
	  exit $${CI:+1}; \
	fi; \
	$(MAKE) --no-print-directory --jobs=2 --output-sync=target emulated-python emulated-rust emulated-bundles

.PHONY: emulated-python emulated-rust emulated-bundles
emulated-python: # without pytest's own handler of faults, which would take the place of the one that hides
	cd python-research && $(EMULATED) $(EMULATOR) $(BIN)/python -m pytest -p no:faulthandler -m bits --timeout=600
emulated-rust:
	cd rust-hotpath && $(EMULATED) CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER="$(EMULATOR)" \
	  cargo test --locked --workspace bits
emulated-bundles:
	cd tests && $(EMULATED) PYTHONPATH=. $(BIN)/python -m pytest processors

.PHONY: test-avx512
test-avx512: build models ## The same on AVX-512 without VNNI: on this processor, whose VNNI is hidden
	@mkdir -p .cache; \
	if ! grep -qsw avx512f /proc/cpuinfo || ! cc -O1 -shared -fPIC -o .cache/hide_cpuid.so tests/processors/hide_cpuid.c || \
	  ! $(HIDE_VNNI) true; then \
	  echo 'test-avx512: NOT RUN: it needs AVX-512, and a processor and Linux that let CPUID be hidden' >&2; exit 0; \
	fi; \
	$(MAKE) --no-print-directory EMULATOR="$(HIDE_VNNI)" emulated-python emulated-rust emulated-bundles

.PHONY: test-arm64
test-arm64: build models ## The same on an emulated arm64, cross-built (docs/processors.md says what it needs)
	$(IN_TESTS) processors.arm64

.PHONY: test-walkthroughs
test-walkthroughs: build models ## What documents tell you to change, done to copies that are then built and tried
	$(IN_TESTS) pytest walkthroughs

.PHONY: e2e
e2e: build embed consumer collector models ## The end-to-end tests alone (STACK=native|compose|url)
	$(IN_TESTS) pytest e2e --stack $(STACK)

.PHONY: chart
chart: build collector operator models ## The Helm chart alone: lint, schemas, a real API server, its pods' programs (minutes the first time)
	$(IN_TESTS) pytest kube

.PHONY: soak
soak: soak-hostile soak-faults soak-long ## Hostile requests, aborted ones, faults in batches, upgrades, memory, kills (SOAK_S=3600 and others)

.PHONY: soak-hostile soak-faults soak-long
soak-hostile: build models
	$(IN_TESTS) soak --seconds $(SOAK_S)
	export ABORTS=$(SOAK_ABORTS); $(IN_TESTS) pytest e2e/test_aborts.py -rP
soak-faults: build models
	$(IN_TESTS) soak.durable --faults $(SOAK_FAULTS)
	$(IN_TESTS) soak.upgrade
soak-long: build models
	$(IN_TESTS) soak.memory
	for folder in $$(grep -rlE 'testkit\.Kills|TEST_KILLS' --include='*_test.go' go-gateway | xargs -n 1 dirname | sort -u); do \
	  (cd $$folder && TEST_KILLS=$(SOAK_KILLS) go test -race -count=1 -v -run Kill .); \
	done

.PHONY: fuzz
fuzz: .venv/.installed ## Look for bytes that break what reads them, in the gateway (FUZZTIME=10s each)
	$(IN_TESTS) repo.fuzz $(FUZZTIME)

.PHONY: lint
lint: lint-proto lint-python lint-go lint-rust lint-generated ## Formats, linters, types, protos, drift of generated files

.PHONY: bench
bench: build models ## Measure, and write docs/benchmarks*.md (35 minutes; ONLY=embeddings, generation, gateway, durable)
	$(IN_TESTS) bench $(if $(ONLY),--only $(ONLY))

.PHONY: simulate
simulate: .venv/.installed ## How a fleet would do, on paper: write docs/scale.md (some minutes)
	cd rust-hotpath && cargo build --release --locked --bin simulate
	$(IN_TESTS) scale

.PHONY: simulate-check
simulate-check: build models ## How far off that is: the real stack with one hot path and with two (10 minutes)
	$(IN_TESTS) scale.calibrate
	$(IN_TESTS) scale.check

.PHONY: llama-server
llama-server: .venv/.installed ## Build the peer of the benchmarks, llama.cpp (half an hour)
	$(IN_TESTS) bench.llama_build

.PHONY: litellm
litellm: .venv/.installed ## Install the peer of the gateway's benchmarks, LiteLLM's proxy, in a place of its own
	$(IN_TESTS) bench.litellm_install

# ---- change it

.PHONY: pictures
pictures: build collector models ## Draw each dashboard while things happen to a stack: docs/dashboards (3 minutes)
	$(IN_TESTS) dashboards

.PHONY: generate
generate: .venv/.installed ## Make the stubs from proto/, dashboards, and docs/config.md
	$(BIN)/python proto/generate.py
	$(BIN)/python deploy/observe/dashboards
	$(MAKE) --no-print-directory build
	{ printf '# Settings\n\nGenerated: change the code, then `make generate`. A flag beats the environment.\n\n'; \
	  printf '## Gateway\n\n'; $(GATEWAY) config-docs; printf '\n## Hot path\n\n'; $(HOTPATH) config-docs; } > docs/config.md

.PHONY: kernels
kernels: $(KERNELS) ## Build the operators that our graphs are made of, as a library that Python loads

.PHONY: models
models: models/.made ## Fetch the weights (checked by hash) and export the bundles

.PHONY: train-moderation
DATA ?= data/moderation
train-moderation: models ## Train the moderation head anew (DATA=folder with OpenAI's samples-1680.jsonl.gz)
	$(BIN)/triptych-models train-moderation --data $(DATA)

.PHONY: rename
rename: .venv/.installed ## Make it yours: NAME=acme GO_MODULE=example.com/acme
	$(IN_TESTS) repo.rename "$(NAME)" "$(GO_MODULE)"

.PHONY: clean
clean: ## Remove what make made
	rm -rf .venv .run .cache models go-gateway/bin rust-hotpath/target tests/e2e/node/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# ---- the pieces

.venv/.installed: tests/requirements.txt python-research/pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed" if sys.version_info < (3, 11) else None)'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r tests/requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e python-research
	touch $@

.PHONY: build
build: .venv/.installed ## Build the gateway and the hot path
	cd go-gateway && go build -trimpath -o bin/gateway ./cmd/gateway
	cd rust-hotpath && cargo build --release --locked

.PHONY: embed
embed: ## Build the pipeline that embeds files: go-gateway/bin/embed (docs/pipelines.md)
	cd go-gateway/cmd/embed && go build -o ../../bin/embed .

.PHONY: consumer
consumer: ## Build what has messages of NATS done as jobs: go-gateway/bin/consumer (docs/consumers.md)
	cd go-gateway/cmd/consumer && go build -trimpath -o ../../bin/consumer .

.PHONY: operator
operator: ## Build the operator of Kubernetes: go-gateway/bin/operator (docs/operator.md)
	cd go-gateway/cmd/operator && go build -trimpath -o ../../bin/operator .

.PHONY: collector
collector: ## Build the collector of traces and of usage: go-gateway/bin/collector (docs/collector.md)
	cd go-gateway/cmd/collector && go build -trimpath -o ../../bin/collector .

# `make build` builds it too. Alone it takes half a minute.
$(KERNELS): $(shell find rust-hotpath/crates/kernels*/src -name '*.rs') rust-hotpath/Cargo.lock
	cd rust-hotpath && cargo build --release --locked --package hotpath-kernels-ort
	touch $@

# What exports: a change of it may change the models. The command itself knows whether it does.
EXPORTER := $(shell find python-research/src/triptych_research -name '*.py' -o -name '*.txt' -o -name '*.json')
models/.made: $(EXPORTER) python-research/requirements.txt | .venv/.installed $(KERNELS)
	$(BIN)/triptych-models export
	touch $@

.PHONY: lint-proto lint-python lint-go lint-rust lint-generated
lint-proto: .venv/.installed
	$(BIN)/buf lint proto
	$(BIN)/buf format --diff --exit-code proto
	$(IN_TESTS) repo.gates breaking

lint-python: .venv/.installed
	cd python-research && $(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
	cd tests && $(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
	$(BIN)/ruff check --config tests/pyproject.toml proto docs/examples deploy && $(BIN)/ruff format --check --config tests/pyproject.toml proto docs/examples deploy

lint-go:
	for module in $(GO_MODULES); do \
	  (cd $$module && test -z "$$(gofmt -l . | tee -a /dev/stderr)" && go vet ./... && go tool staticcheck ./...); \
	done
	cd go-gateway && GOOS=darwin GOARCH=arm64 go build ./...

lint-rust:
	cd rust-hotpath && cargo fmt --check && cargo clippy --locked --workspace --all-targets --quiet -- -D warnings

lint-generated: build
	$(IN_TESTS) repo.gates drift

.PHONY: lock
lock: .venv/.installed ## Take newer Python packages into the hashed lock files
	cd python-research && $(UV_COMPILE) pyproject.toml -o requirements.txt
	cd tests && $(UV_COMPILE) requirements.in ../python-research/requirements.txt -o requirements.txt
	cd tests/bench/gateway && $(UV_COMPILE) litellm.in -o litellm.txt
UV_COMPILE = $(BIN)/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url --no-annotate
