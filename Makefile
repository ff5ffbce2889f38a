# Two commands for a fresh machine with Python 3.11 or newer: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-long check format lint types fresh generate bench clean

demo: $(VENV)/.installed  ## install, then run the main job on the embedded digits
	$(BIN)/convatlas demo

test: $(VENV)/.installed-dev  ## install, then run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

test-long: $(VENV)/.installed-dev  ## the slow tests too
	$(BIN)/python -m pytest -m "slow or not slow"

check: $(VENV)/.installed-dev  ## everything, fastest first
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python tools/generate.py --check
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist loadfile

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

generate: $(VENV)/.installed-dev  ## write the catalogue and the tables in the docs anew
	$(BIN)/python tools/generate.py

bench: $(VENV)/.installed-dev  ## the speed claims, both sides in one run
	$(BIN)/python benchmarks/account.py
	$(BIN)/python benchmarks/data.py

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "ConvAtlas needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[onnx]'
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[onnx,dev]'
	touch $@

clean:
	rm -rf $(VENV) demo dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
