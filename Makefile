# The two commands of the README, and the checks of CONTRIBUTING. A virtual environment is made where it lacks.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test lock-dev clean
.DEFAULT_GOAL := demo

$(VENV)/ready: pyproject.toml requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit("mlpkg needs Python 3.11 or newer; say which: make PYTHON=python3.13 …" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

# main job: train, lock, render, build, tag, push; then run the image and ask it
demo: $(VENV)/ready
	$(BIN)/doit
	$(BIN)/mlpkg run diabetes
	$(BIN)/mlpkg score diabetes examples/diabetes/sample.json; status=$$?; $(BIN)/mlpkg stop diabetes; exit $$status

test: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

# after a change of dependencies in pyproject.toml or requirements-dev.in
lock-dev: $(VENV)/ready
	$(BIN)/uv pip compile pyproject.toml requirements-dev.in --group dev --universal --python-version 3.11 \
		--generate-hashes --no-header --no-annotate --quiet --output-file requirements-dev.txt

clean:
	rm -rf $(VENV) .mlpkg .doit.sqlite
