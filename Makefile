# `make run` does the main job, `make test` passes the tests. Neither needs Rust, Node, Docker, a server or a key.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
QUICK := not slow and not npm and not rust and not performance

.PHONY: run test test-all lint types imports check kernel program lock bench-load bench-compare clean

run: .venv/installed
	@$(BIN)/acgs1 demo $(ARGS)

test: .venv/installed-dev
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m "$(QUICK)"

# Everything that can run on this machine; what cannot is skipped with a reason.
test-all: .venv/installed-dev
	@$(BIN)/python -m pytest -n 2 --dist loadfile

lint: .venv/installed-dev
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: .venv/installed-dev
	@$(BIN)/basedpyright

imports: .venv/installed-dev
	@$(BIN)/lint-imports

check: lint types imports test

kernel:
	@native/build.sh

program:
	@blockchain/build.sh

# Resolve the dependencies anew into the hash-pinned locks.
lock: .venv/installed-dev
	@scripts/lock.sh

# The whole load measurement, on a quiet machine: about ten minutes, at most twelve; with faults on SQLite and on PostgreSQL. Missed targets are
# a result, not a failure of the measurement.
bench-load: .venv/installed-dev
	@$(BIN)/python tests/performance/test_system_performance.py --ramp --faults --keep --out benchmarks/load/results || test $$? -eq 1

bench-compare: .venv/installed-dev
	@$(BIN)/python benchmarks/compare.py

.venv/installed: pyproject.toml requirements.lock native/dist/SHA256SUMS scripts/install.sh
	@PYTHON=$(PYTHON) scripts/install.sh requirements.lock
	@touch $@

.venv/installed-dev: .venv/installed requirements-dev.lock
	@PYTHON=$(PYTHON) scripts/install.sh requirements-dev.lock
	@touch $@

clean:
	rm -rf .venv .pytest_cache .ruff_cache native/target blockchain/target
