# make demo | test | lint | format | e2e | e2e-long | fuzz | bench | growth | soak | profile   (see CONTRIBUTING.md)
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Tests start real processes: two at a time are enough for two cores.
JOBS ?= 2
# How long `make soak` takes.
MINUTES ?= 10

.PHONY: demo test e2e e2e-long lint format fuzz bench growth soak profile schema clean

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/spooky demo

test: $(STAMP)
	$(BIN)/pytest -n $(JOBS) --dist loadscope

e2e: $(STAMP)
	$(BIN)/pytest -n $(JOBS) --dist loadscope -m 'e2e and not long'

e2e-long: $(STAMP)
	$(BIN)/pytest -s -m long

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

fuzz: $(STAMP)
	$(BIN)/python -m pip install --quiet --editable '.[dev,fuzz]'
	$(BIN)/python -m tests.fuzz $(FUZZ)

bench: $(STAMP)
	$(BIN)/python -m pip install --quiet --editable '.[dev,bench]'
	$(BIN)/python -m loadtest.picks
	$(BIN)/python -m loadtest.codecs
	$(BIN)/python -m loadtest.rates
	$(BIN)/python -m loadtest.bench $(BENCH)

growth: $(STAMP)
	$(BIN)/python -m loadtest.growth $(GROWTH)

soak: $(STAMP)
	$(BIN)/python -m loadtest.scenario soak --minutes $(MINUTES)

profile: $(STAMP)
	$(BIN)/python -m pip install --quiet --editable '.[dev,bench]'
	$(BIN)/python -m loadtest.profile $(PROFILE)

schema: $(STAMP)
	$(BIN)/python -m spooky.config.schema > config/spooky.schema.json

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .bench .fuzz
