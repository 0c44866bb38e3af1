# make lab · make test · make notebooks (LESSON=03 for one) · make kills · make lint · make bench (ROUNDS=30)

PYTHON ?= python3
BIN := .venv/bin
export OMP_NUM_THREADS := 1
export PYTHONDONTWRITEBYTECODE := 1

lab: .venv/installed
	$(BIN)/wmcourse start my-lessons
	cd my-lessons && ../$(BIN)/jupyter lab --LabApp.default_url=/lab/tree/00_start_here.ipynb \
		$(if $(filter 0,$(shell id -u)),--allow-root)

test: .venv/installed-test
	$(BIN)/python -m pytest -n 2 --dist loadfile --nbval-lax --nbval-current-env --nbval-cell-timeout=300 \
		tests notebooks solutions

notebooks: .venv/installed-test
	$(BIN)/python -m wmcourse.authoring.build $(LESSON)
	$(BIN)/ruff format --quiet solutions

kills: .venv/installed-test
	$(BIN)/python -m tests.banks

lint: .venv/installed-test
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/pyright

# The peers, in an environment of their own: python3 -m venv .venv-bench, then with its pip
# install --editable ".[bench]" and install --no-deps mbrl. Without them only this package is measured.
ROUNDS ?= 30
bench: .venv/installed
	$(or $(wildcard .venv-bench/bin/python),$(BIN)/python) -m bench.rssm --threads 1 2 --rounds $(ROUNDS)
	$(or $(wildcard .venv-bench/bin/python),$(BIN)/python) -m bench.ensembles --threads 1 2 --rounds $(ROUNDS)

.venv/bin/python:
	$(PYTHON) -m venv .venv

# Installed again when what is asked for changes.
.venv/installed: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/installed-test: pyproject.toml constraints.txt | .venv/bin/python
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch .venv/installed $@

.PHONY: lab test notebooks kills lint bench
