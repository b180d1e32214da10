# PYTHON is used once, to create the environment; VENV is where it lives.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: serve test coverage test-api test-image screenshots lint format clean

serve: $(VENV)/.installed
	$(BIN)/dvt serve

# A file's tests stay together, with the server they share.
test: lint
	$(BIN)/python -m pytest --numprocesses 4 --dist loadfile

# Lines and branches that the tests run, the processes they start included.
coverage: $(VENV)/.installed-dev
	$(BIN)/python -m pytest --numprocesses 4 --dist loadfile --cov --cov-report=term:skip-covered

# As root, with dockerd and debootstrap: builds the image and runs it.
test-image: $(VENV)/.installed-dev
	IMAGE_TESTS=1 $(BIN)/python -m pytest --capture=no tests/docker/test_image.py

# Requests made from the API's own description, some thousands of them, at a server of its own.
test-api: $(VENV)/.installed-dev
	PYTHONPATH=.:tests/support $(BIN)/python tests/support/conformance.py

# With chromium: takes the pictures of the console that the README shows.
screenshots: $(VENV)/.installed-dev
	PYTHONPATH=.:tests/support $(BIN)/python tests/support/screenshots.py

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; set PYTHON=/path/to/one" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Stamps: installing again happens only when the dependencies have changed.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --editable .
	touch $@

$(VENV)/.installed-dev: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --editable '.[dev]'
	touch $@ $(VENV)/.installed
