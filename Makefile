# make demo    a few minutes: pre-train sparse, fine-tune dense, compare
# make test    all tests
# make check   format, lint, types
# make docs    the documentation, into site/
# make bench   how fast sparse layers and steps are here, beside dense ones; the tables of docs/speed.md
# make kernels  compile the CPU kernels again, after a change of their sources
# make attack   kills, power losses, altered files, bad inputs, files of attackers: half an hour, a table at its end
# make sanitize test the kernels under the address and undefined-behaviour sanitizers
#
# Each one makes .venv and installs what it needs the first time; afterwards that is skipped until pyproject.toml or
# constraints.txt change.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test check format docs bench kernels attack sanitize clean

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
TORCH := torch==2.13.0
SPEC := pyproject.toml constraints.txt

help:
	@sed -n 's/^# \(make .*\)/\1/p' Makefile

$(VENV)/.made:
	@test -n "$(PYTHON)" || { echo "make: Python 3.11 or newer was not found. Write: make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

# First and alone: asked for together with packages that need it, torch would be resolved anew, with gigabytes of CUDA.
$(VENV)/.torch: $(VENV)/.made
	$(PIP) install "$(TORCH)"
	@touch $@

$(VENV)/.base: $(VENV)/.torch $(SPEC)
	$(PIP) install -c constraints.txt -e . sacrebleu
	@touch $@

# The installation has built them; this is for sources that have changed since.
$(VENV)/.kernels: $(VENV)/.base $(wildcard src/fallow/linear/kernels/*.h src/fallow/linear/kernels/*.cpp)
	$(BIN)/python -m fallow.linear.kernels || echo "make: going on without the CPU kernels"
	@touch $@

$(VENV)/.test: $(VENV)/.kernels
	$(PIP) install -c constraints.txt -e ".[test]"
	@touch $@

$(VENV)/.dev: $(VENV)/.test
	$(PIP) install -c constraints.txt -e ".[dev]"
	@touch $@

$(VENV)/.docs: $(VENV)/.base
	$(PIP) install -c constraints.txt -e ".[docs]"
	@touch $@

demo: $(VENV)/.kernels
	$(BIN)/fallow demo $(ARGS)

# One thread a worker: two workers with two threads each on two cores are slower than this. A file stays with one worker,
# so that what its tests share (a finished run, a group of processes) is made once.
test: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -q $(ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/.docs
	$(BIN)/mkdocs build --strict

bench: $(VENV)/.kernels
	$(BIN)/python benchmarks/kernels.py $(ARGS)
	$(BIN)/python benchmarks/step.py
	$(BIN)/python benchmarks/speed_page.py

kernels: $(VENV)/.base
	$(BIN)/python -m fallow.linear.kernels

attack: $(VENV)/.test
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.attack $(ARGS)

sanitize: $(VENV)/.test
	$(BIN)/python tests/linear/sanitize.py

clean:
	rm -rf $(VENV) build dist site src/fallow/linear/kernels/libfallow.so .pytest_cache .mypy_cache .ruff_cache .hypothesis
