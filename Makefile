PYTHON ?= python3
PHOTOS ?=
BIN := .venv/bin

.PHONY: setup demo test fault-test lint

setup: .venv/ready

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

# PyTorch is large and only the parity tests compare with it
.venv/torch: .venv/ready
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[torch]'
	touch $@

demo: setup
	$(BIN)/python -m launch.demo $(if $(PHOTOS),--photos "$(PHOTOS)")

test: .venv/torch
	$(BIN)/python -m pytest --numprocesses 2 --dist worksteal

# a quarter of an hour: a run is killed 50 times and asked to end 10 times
fault-test: setup
	$(BIN)/python -m tests.e2e.faults --kills 50 --terms 10

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy
