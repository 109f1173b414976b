# Everything a contributor or user types. `make` prints what there is; every target sets the machine up first.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup up down status test check lint fast fuzz e2e sim bench matrix lock wheel clean

# A fleet starts a dozen programs of several hundred modules: compiled once, and nowhere outside this directory.
unexport PYTHONDONTWRITEBYTECODE
export PYTHONPYCACHEPREFIX := $(CURDIR)/__pycache__

BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest -q
SEEDS ?= 200
# Options for `fedctl lab up`, for example: make up LAB="--nodes 1"
LAB ?=
# Two cores; a third of the time is waited. A test that must be alone is in tests/e2e.
PARALLEL ?= -n 3
# Two fleets at work at the same time, of which each mostly waits (tests/e2e/conftest.py).
LANES ?= -n 2
FAST := tests/unit tests/tidy
MORE := tests/conformance tests/contract tests/fuzz tests/golden tests/integration tests/sim
# For each fuzzer of `make fuzz`
FUZZ_SECONDS ?= 60
E2E := $(PYTEST) --timeout 900
# What compares the whole machine, and the rest.
TRACES := tests/e2e/test_lab_traces.py
FLEETS := tests/e2e --ignore $(TRACES)
# What fails beside others runs once more, alone: both results are printed, and the second one counts.
AGAIN := --last-failed --last-failed-no-failures none
have = $(foreach dir,$(1),$(if $(shell find $(dir) -name 'test_*.py' 2>/dev/null | head -1),$(dir)))

help: ## print this
	@echo "Ubernetes: a federation of clusters on one machine. Debian 12, root and Python 3.11 are needed."
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## /{ printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## install Debian's packages and .venv (all targets do it; a repeat takes a moment)
	@.ci/setup

up: setup ## start the fleet: a federation and three clusters with real containers (LAB="--nodes 1" for options)
	@$(BIN)/fedctl lab up $(LAB)

down: setup ## stop the fleet and remove every trace of it
	@$(BIN)/fedctl lab down

status: setup ## what runs, where, how often it was restarted
	@$(BIN)/fedctl lab status

test: setup ## all tests; those with real containers when run as root
	$(PYTEST) $(PARALLEL) $(call have,$(FAST) $(MORE)) || { echo "== once more, alone: what failed"; $(PYTEST) $(AGAIN) $(call have,$(FAST) $(MORE)); }
	@if [ "$$(id -u)" = 0 ]; then $(MAKE) --no-print-directory e2e; else echo "not root: tests/e2e left out"; fi

check: lint $(if $(LINT_ONLY),,fast) ## formatting, lint, types, import contracts, and the fast tests

lint: setup ## the part of check that runs no test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fast: setup ## unit and tidy tests
	$(PYTEST) $(PARALLEL) $(call have,$(FAST))

fuzz: setup ## hostile input for everything that reads what clients send, FUZZ_SECONDS=60 for each fuzzer
	FUZZ_SECONDS=$(FUZZ_SECONDS) $(PYTEST) -n 2 --timeout 0 $(call have,tests/fuzz)

e2e: setup ## real fleets of processes and containers (needs root): the lab's traces, then two lanes of tests
	$(E2E) $(TRACES) || { echo "== once more: what failed"; $(E2E) $(AGAIN) $(TRACES); }
	$(E2E) $(LANES) $(FLEETS) || { echo "== once more, alone: what failed"; $(E2E) $(AGAIN) $(FLEETS); }

sim: setup ## the fleet in virtual time: SEEDS=200 histories, every invariant after every event; SEED=7 tells one
	$(BIN)/python -m federation.simulator $(if $(SEED),--seed $(SEED) --verbose,--seeds $(SEEDS))

bench: setup ## CPU per operation against the numbers we promise
	$(PYTEST) -s --timeout 1800 tests/bench

matrix: setup ## what clients do here, asked of a fleet: docs/compatibility.md (half an hour; as root with real containers)
	@.ci/matrix-tools
	$(BIN)/python -m tests.matrix

lock: setup ## resolve dependencies anew and write requirements.txt
	$(BIN)/uv lock --upgrade
	$(BIN)/uv export --all-extras --group dev --no-emit-workspace --no-header --no-annotate -q -o requirements.txt
	$(BIN)/uv export --only-group matrix --no-emit-workspace --no-header --no-annotate -q -o requirements-matrix.txt
	@if grep -n '://' requirements.txt requirements-matrix.txt; then echo "requirements name a host"; exit 1; fi

wheel: setup ## build the three distributions into dist/
	$(BIN)/uv build --all-packages --wheel -o dist

clean: ## stop the fleet, then remove .venv, .lab and all caches
	@if [ -x $(BIN)/fedctl ] && [ -d .lab ]; then $(BIN)/fedctl lab down; fi
	rm -rf .venv .lab .bench .sim .matrix dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
