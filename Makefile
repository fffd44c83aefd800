# Two commands on a fresh machine with Python 3.11 and make: `make tour`, `make test`.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: setup tour test test-browser test-floor lint docs studio bench bench-smoke models clean
setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

tour: setup
	$(BIN)/triptych tour --out tour

test: setup
	$(BIN)/python -m pytest

# the page in the distribution's own Chromium, which is installed where it is missing (Debian and its kin, as root)
test-browser: setup
	command -v chromium >/dev/null || { apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends chromium; }
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev,docs,browser]'
	$(BIN)/python -m pytest -o addopts= -W default -q -s --durations=5 tests/browser

# everything that pyproject.toml names at its lowest version, in an environment of its own; FLOOR_TORCH=2.13.0 takes another
# torch, where the lowest is to be had only with the libraries of a GPU
FLOOR := .venv-floor
FLOOR_TORCH ?= $(shell sed -n 's/^torch==//p' constraints-floor.txt)
test-floor:
	$(PYTHON) -m venv $(FLOOR)
	sed 's/^torch==.*/torch==$(FLOOR_TORCH)/' constraints-floor.txt > $(FLOOR)/constraints.txt
	$(FLOOR)/bin/pip install -q --disable-pip-version-check -c $(FLOOR)/constraints.txt -e '.[test]'
	$(FLOOR)/bin/python -m pytest

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup
	$(BIN)/python benchmarks/race_vae.py
	$(BIN)/python benchmarks/race_flow.py
	$(BIN)/python benchmarks/race_flow.py --memory

# every benchmark that has a small form, run to its end: minutes
bench-smoke: setup
	PYTHONPATH=. $(BIN)/python benchmarks/smoke.py

# the models that come with the package, anew: hours of one core, by trainings that go on where they were stopped
models: setup
	$(BIN)/python benchmarks/onboard.py

# the pages into site/; a warning is an error
docs: setup .venv/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build -q --strict

.venv/.docs: pyproject.toml constraints.txt $(STAMP)
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev,docs]'
	@touch $@

studio: setup
	$(BIN)/triptych studio

clean:
	rm -rf .venv .venv-floor site build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
