# The two commands of the README, and the checks of CONTRIBUTING. A virtual environment is made where it lacks.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# How many tests run at once: make test WORKERS=0 runs them one after the other, in one process.
WORKERS ?= auto

.PHONY: demo test test-long lock-dev clean
.DEFAULT_GOAL := demo

# What mlpkg itself needs, and what the example trains with. pip brings uv and tomli, uv the rest. The pip is that of
# $(PYTHON) where it has one of 22.3 or later: one of its own would take longer to install than all that it installs.
FIRST := install --quiet --disable-pip-version-check --require-hashes --requirement $(VENV)/first.txt
$(VENV)/usable: pyproject.toml requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit("mlpkg needs Python 3.11 or newer; say which: make PYTHON=python3.13 …" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv --without-pip $(VENV)
	sed -n -e '/^uv==/,/[^\\]$$/p' -e '/^tomli==/,/[^\\]$$/p' requirements.txt > $(VENV)/first.txt
	$(PYTHON) -m pip --python $(BIN)/python $(FIRST) 2>$(VENV)/pip.log || \
		{ $(BIN)/python -m ensurepip >$(VENV)/pip.log && $(BIN)/python -m pip $(FIRST); }
	$(BIN)/python .ci/install.py requirements.txt
	$(BIN)/uv pip install --quiet --offline --python $(BIN)/python --no-deps --no-build-isolation --editable .
	touch $@

# and what the tests need
$(VENV)/ready: $(VENV)/usable requirements-dev.txt
	$(BIN)/python .ci/install.py requirements-dev.txt
	touch $@

# main job: train, lock, render, build, tag, push; then run the image and ask it. The lock needs no model (-n 2), and
# the registry, which the push would start, needs neither.
demo: $(VENV)/usable
	$(BIN)/mlpkg registry up --quiet & $(BIN)/doit -n 2; status=$$?; wait; exit $$status
	$(BIN)/mlpkg run diabetes
	$(BIN)/mlpkg score diabetes examples/diabetes/sample.json; status=$$?; $(BIN)/mlpkg stop diabetes; exit $$status

test: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 -m "not long"

# the tests that take minutes
test-long: $(VENV)/ready
	$(BIN)/python -m pytest -n $(WORKERS) --maxprocesses 8 -m long

# after a change of dependencies in pyproject.toml, requirements.in or requirements-dev.in
COMPILE := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --quiet
lock-dev: $(VENV)/ready
	$(COMPILE) pyproject.toml requirements.in --output-file requirements.txt
	$(COMPILE) pyproject.toml requirements-dev.in --group dev --constraint requirements.txt --output-file requirements-dev.txt

clean:
	rm -rf $(VENV) .mlpkg .doit.sqlite
