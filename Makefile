# Two commands do all the set-up: `make train` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := runs/default

.PHONY: train test clean

# torch is pinned and comes first: left to itself, pip takes the newest build with gigabytes of CUDA.
$(VENV)/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Reelsense needs Python 3.11 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable ".[train,tune,synonyms,scale,serve,dev]"
	touch $@

# A run that was interrupted goes on; one that has finished only says where its report is.
train: $(VENV)/installed
	$(BIN)/reelsense train --recipe default --run $(RUN) $(if $(wildcard $(RUN)/recipe.toml),--resume)

test: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n 2 --dist loadfile

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
