# The commands of the project; CI runs the same ones.   make help
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3.11
ACCEL ?= auto
VENV := .venv
BIN := $(VENV)/bin
SWIFT_VENV := .venv-swift
comma := ,
REQUIRE := $(if $(CI),--require=s3$(comma)mlflow$(comma)ray$(comma)hosts)

.PHONY: help setup setup-test quickstart test test-full lint bench soak lock clean

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

setup: $(VENV)/.ready ## .venv with the locked versions; ACCEL=cpu|cuda|auto
	@$(BIN)/python infra/accelerator.py $(ACCEL)

$(VENV)/.ready: requirements.lock pyproject.toml infra/setup.sh
	@ACCEL=$(ACCEL) PYTHON=$(PYTHON) bash infra/setup.sh $(VENV)
	@touch $@

setup-test: setup $(SWIFT_VENV)/.ready ## setup, and the S3 server that the tests talk to

$(SWIFT_VENV)/.ready: infra/swift-requirements.txt
	@$(PYTHON) -m venv $(SWIFT_VENV)
	@$(SWIFT_VENV)/bin/pip install --quiet --disable-pip-version-check -r infra/swift-requirements.txt
	@touch $@

quickstart: setup ## the whole job on phantoms, to a registered model; DATA=FOLDER takes real ACDC data
	@bash infra/quickstart.sh "$(DATA)"

# Unit and component tests share the cores, the longest first; a job end to end has them to itself. With ARGS a half may select nothing.
define run_tests
	$(BIN)/python -m pytest -m $(1) -n 2 --dist loadgroup $(REQUIRE) $(ARGS) tests/component tests/unit || [ $$? -eq 5 -a -n "$(ARGS)" ]
	$(BIN)/python -m pytest -m $(1) $(REQUIRE) $(ARGS) tests/e2e || [ $$? -eq 5 -a -n "$(ARGS)" ]
endef

test: setup-test ## what CI runs: unit, component and e2e tests; ARGS="-k splits" for a part
	$(call run_tests,"not slow and not gpu")

test-full: setup-test ## everything, the slow tests too
	$(call run_tests,"not gpu")

lint: setup ## ruff, mypy --strict, the layers
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/unit/test_layers.py

bench: setup ## the tables of docs/benchmarks.md
	@for script in tests/bench/bench_*.py; do echo "## $$script"; $(BIN)/python $$script || exit 1; done

soak: setup-test ## two hours of random faults on hosts in namespaces (root); ARGS="--minutes 10 --every 60 --seed 2"
	$(BIN)/python -m tests.soak $(ARGS)

lock: ## requirements.lock anew, from pyproject.toml
	@bash infra/lock.sh

clean: ## remove what make made
	rm -rf $(VENV) $(SWIFT_VENV) build dist .pytest_cache .mypy_cache .ruff_cache
