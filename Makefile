# make demo and make test are the two commands of the README: both work on a fresh machine with Python 3.11,
# make and a package index.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.edgeml-installed

.PHONY: dev demo test lint types layers wheel old-runtime old-sklearn instructions bench clean

dev: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet -e ".[all]" --group dev
	ln -sfn ../converters edgeml/converters
	ln -sfn ../runtimes edgeml/runtimes
	ln -sfn ../targets edgeml/targets
	touch $(STAMP)

demo: dev
	$(BIN)/edgeml demo

test: dev
	$(BIN)/python -m tests

lint: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: dev
	$(BIN)/mypy

layers: dev
	$(BIN)/lint-imports

# Builds the wheel, uses it in a virtual environment with NumPy alone, and type-checks it as installed.
wheel: dev
	$(BIN)/python -m tests.wheel

# Bundles on tflite-runtime 2.14, which needs NumPy 1, in a virtual environment of its own.
old-runtime: dev
	$(BIN)/python -m tests.old_runtime

# The conformance table with the minor version of scikit-learn before, in a virtual environment of its own.
old-sklearn: dev
	$(BIN)/python -m tests.old_sklearn

# Instructions that the kernels take, against benchmarks/instructions.json; needs valgrind and gcc.
instructions: dev
	$(BIN)/python -m benchmarks.instructions

# Against the peers, which are installed for it; about an hour on a quiet machine. Then the README's tables and pictures.
bench: dev
	$(BIN)/python -m pip install --quiet --group bench
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.report
	$(BIN)/python -m benchmarks.quantised
	$(BIN)/python -m benchmarks.recording
	$(BIN)/python -m benchmarks.monitor

clean:
	rm -rf $(VENV) build dist *.egg-info edgeml/converters edgeml/runtimes edgeml/targets
