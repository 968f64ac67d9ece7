# `make demo` and `make test` need a Debian-like Linux with Python 3.11 to 3.13 and do all their own set-up.
#
# The environment is made anew when requirements/test.txt changes; the project is installed in it again when
# pyproject.toml changes; otherwise nothing is done. VENV=... keeps it elsewhere, PYTHON=... chooses the interpreter.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.NOTPARALLEL:

VENV ?= .venv
PYTHON ?= $(firstword $(foreach name,python3 python3.13 python3.12 python3.11,$(call usable,$(name))))
usable = $(shell $(1) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $(1))

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install -qq
LOCKED := $(VENV)/.locked
READY := $(VENV)/.ready
UV := build/uv/bin/uv

.PHONY: help demo test test-all bench bench-grpc lint format lock docs oracle curl prometheus chromium console clean

help:  ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: $(READY)  ## Serve real models, import others, roll one out, optimize one, watch one (about a minute once it is set up)
	@$(BIN)/python -m examples.demo

test: lint oracle curl prometheus chromium  ## Lint, types, layers, and every test that is not slow; warnings are errors
	$(BIN)/python -m pytest -m "not slow"

test-all: lint oracle curl prometheus chromium  ## The slow tests too
	$(BIN)/python -m pytest

lint: $(READY)  ## Ruff, mypy and the staircase of imports
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check
	$(BIN)/python -m mypy
	$(BIN)/lint-imports

format: $(READY)  ## Rewrite what can be rewritten
	$(BIN)/python -m ruff check --fix
	$(BIN)/python -m ruff format

docs: $(READY)  ## Print the generated pages again
	for page in config metrics errors compatibility; do $(BIN)/python -m tools.$${page}_docs; done
	$(BIN)/python -m tools.house

bench: $(READY)  ## Measure taxiway beside its rivals (about 15 minutes, two quiet cores); BENCH="--only mlp" for some
	@command -v wrk >/dev/null || $(call debian,wrk)
	$(BIN)/python -m benchmarks.http_speed $(BENCH)

bench-grpc: $(READY)  ## The same over gRPC, beside a bare grpc.aio server and Triton (about 5 minutes)
	$(BIN)/python -m benchmarks.grpc_speed $(BENCH)

oracle: $(READY)  ## Fetch the real Triton that some tests compare with; without it they skip and say why
	@$(BIN)/python -m tools.oracle_triton >/dev/null || echo "  (the tests that compare with real Triton will skip)"

curl:  # the README's commands are tests
	@command -v curl >/dev/null || $(call debian,curl)

prometheus:  # rules and dashboards are tried on a real one; without it those tests skip and say why
	@command -v promtool >/dev/null && command -v prometheus-alertmanager >/dev/null || $(call debian,prometheus prometheus-alertmanager) \
		|| echo "  (the tests that ask a real Prometheus will skip)"

chromium:  # the console's pages are tried in a real browser; without it those tests skip and say why
	@command -v chromium >/dev/null || $(call debian,chromium) || echo "  (the tests of the console's pages will skip)"

console:  ## Build the console's pages again (needs Node 20 and npm); the result is committed, so that users need neither
	cd console && npm ci --no-audit --no-fund && npm test && npm run build

lock: $(UV)  ## Pin requirements/*.txt again; UPGRADE=--upgrade takes newer versions
	$(call compile,pyproject.toml --group test --group lint --group bench --group build,test,Everything that make needs)
	$(call compile,pyproject.toml -c requirements/test.txt,runtime,What taxiway needs to run)
	echo 'kserve>=0.21' > build/kserve.in
	$(call compile,build/kserve.in --no-annotate,kserve,The SDK of KServe that a test asks with in an environment of its own)
	echo 'mlcommons-loadgen==6.0.17' > build/loadgen.in
	$(call compile,build/loadgen.in --no-annotate,loadgen,The LoadGen of MLPerf that a benchmark compares with in an environment of its own)

clean:  ## Remove the environment and everything cached or built
	rm -rf $(VENV) .cache build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(LOCKED): requirements/test.txt
	@[[ -n "$(PYTHON)" ]] || $(call debian,python3 python3-venv)
	@python="$(or $(PYTHON),python3)"; \
	$$python -c 'import ensurepip, venv' 2>/dev/null || $(call debian,python3-venv); \
	echo "Making $(VENV) with $$($$python --version) (once, about a minute)"; \
	$$python -m venv --clear $(VENV)
	@$(PIP) --no-deps --require-hashes --only-binary=:all: -r $<
	@touch $@

$(READY): $(LOCKED) pyproject.toml
	@$(PIP) --no-deps --no-build-isolation --editable .
	@$(BIN)/python -m pip check >/dev/null || { echo "The lock does not fit pyproject.toml: make lock" >&2; exit 1; }
	@touch $@

$(UV):
	@$(PYTHON) -m venv --clear $(@:/bin/uv=)
	@$(@D)/python -m pip --disable-pip-version-check install -qq uv

# Install Debian packages as root, or name them: $(call debian,packages).
debian = { \
	if [[ $$(id -u) == 0 ]] && command -v apt-get >/dev/null; then \
		echo "Installing Debian packages: $(1)"; \
		{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(1); } >/dev/null; \
	else echo "Please install first: $(1) (Debian: apt-get install $(1))" >&2; exit 1; fi; }

# One lock for every Python and processor that is supported: $(call compile,sources and options,name,title). It names no registry.
define compile
	$(UV) pip compile $(1) --quiet --universal --python-version 3.11 --generate-hashes \
		--no-emit-index-url --no-header $(UPGRADE) -o requirements/$(2).txt >/dev/null
	sed -i '1i # $(3), pinned with hashes. Written by `make lock`; edit pyproject.toml instead.' requirements/$(2).txt
endef
