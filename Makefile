# Every target creates the environment that it needs; `make PYTHON=python3.12 ...` chooses the interpreter.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup test test-all test-kernels verify lint demo bench bench-check curves faults clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY)  ## create the virtual environment in .venv

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

# Many tests start a process: Python is to keep what it has compiled, even where the environment tells it not to.
unexport PYTHONDONTWRITEBYTECODE

# One thread of BLAS a worker: more of them wait for each other. Each worker takes whole stretches of tests, which share
# what takes long to make, and what another has not begun.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

test: $(READY)  ## run the tests, in minutes
	$(PYTEST) -m "not long" $(ARGS)

test-all: $(READY)  ## run what `make test` leaves out: long tests, more drawn cases, two other kernels
	MNISTCHECK_TEST_PROFILE=deep $(PYTEST) -m "long or hypothesis" $(ARGS)
	$(BIN)/python -m tests.kernels --others

test-kernels: $(READY)  ## run what depends on rounding on every kernel that this processor has
	$(BIN)/python -m tests.kernels

verify: $(READY)  ## check every layer, loss, optimizer, schedule and initialiser against differences and torch
	$(BIN)/mnistcheck verify --jobs 2 $(ARGS)

lint: $(READY)  ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

demo: $(READY)  ## train NumPy and PyTorch side by side on bundled digits and compare every step
	$(BIN)/mnistcheck train --fair --dataset digits $(ARGS)

SPEED := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m benchmarks.speed

bench: $(READY)  ## measure all speeds as ratios, in minutes: benchmarks/results.json, docs/performance.md
	$(SPEED) $(ARGS)

bench-check: $(READY)  ## measure them again, and fail where a ratio has grown beyond its margin
	$(SPEED) --check $(ARGS)

curves: $(READY)  ## draw how cost grows, and where the time goes: docs/images
	$(SPEED).curves $(ARGS)
	$(SPEED).flames $(ARGS)

faults: $(READY)  ## measure what the checks and a fair run catch (on MNIST, if it is found)
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/gradient_checks.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/agreement.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/loops.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/trajectories.py --part smallest $(ARGS)

clean:  ## remove the environment and the caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
