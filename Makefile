# Everything runs in a venv inside the checkout. TORCH picks the torch build, e.g. TORCH=torch==2.13.0
PYTHON ?= python3
TORCH ?= torch
VENV := .venv
BIN := $(VENV)/bin
VIDEO ?=

.PHONY: demo test check changelog package matrix docs coverage mutate conformance fuzz kills soak memory bench scale experiments clean

$(VENV)/.user: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet "$(TORCH)" -e .
	touch $@

$(VENV)/.dev: $(VENV)/.user pyproject.toml
	$(BIN)/python -m pip install --quiet --group dev
	touch $@

demo: $(VENV)/.user         ## extract features of a small real video with real weights
	$(BIN)/python examples/demo.py $(VIDEO)

test: $(VENV)/.dev          ## style, types, tests
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/pytest -n 2 --dist worksteal -m "not slow"

check: test

changelog: $(VENV)/.dev     ## what changelog.d/ adds; RELEASE=0.2.0 writes it into CHANGELOG.md
	$(BIN)/python -m tools.changelog $(RELEASE)

package: $(VENV)/.dev       ## wheel and sdist into dist/, checked; every verb in a clean venv (slow)
	$(BIN)/python -m pip install --quiet --group release
	rm -rf dist && $(BIN)/python -m hatchling build
	$(BIN)/twine check --strict dist/*
	$(BIN)/zizmor --offline --quiet .github
	$(BIN)/pytest -m slow tests/test_installed.py

matrix: $(VENV)/.dev        ## the tests with the lowest and the newest releases of everything (gigabytes); LEGS="lowest 3.12 3.13"
	$(BIN)/python -m pip install --quiet uv
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python benchmarks/matrix.py $(LEGS)

coverage: $(VENV)/.dev      ## branches that the tests run, with a floor (slower than `make test`)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -n 2 --dist worksteal -m "not slow"
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered

mutate: $(VENV)/.dev        ## changes of the source that no test notices (hours); UNITS="windows gather", SAMPLE=40
	$(BIN)/python -m tools.mutate $(UNITS) $(if $(SAMPLE),--sample $(SAMPLE))

docs: $(VENV)/.user         ## the site, into site/; tutorials are executed
	$(BIN)/python -m pip install --quiet --group docs
	$(BIN)/python -m tools.site

conformance: $(VENV)/.dev   ## every released configuration against the reference's numbers (slow)
	$(BIN)/python benchmarks/conformance.py

fuzz: $(VENV)/.dev          ## thousands of mutated containers against the reader
	$(BIN)/python benchmarks/fuzz.py --files 6000 --seed 2 --write

kills: $(VENV)/.dev         ## 240 SIGKILLs at random moments over every store
	$(BIN)/python benchmarks/kills.py 240

soak: $(VENV)/.dev          ## a 2-hour video within a fixed memory bound
	$(BIN)/python benchmarks/memory.py soak

memory: $(VENV)/.dev        ## peak memory: 10 minutes of 720p, 4K, a file of 10 hours
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/memory.py uhd
	$(BIN)/python benchmarks/memory.py hours

bench: $(VENV)/.dev         ## networks and everything around them against their targets (an hour; wants an idle machine)
	$(BIN)/python benchmarks/pipeline.py videos
	$(BIN)/python benchmarks/pipeline.py
	$(BIN)/python benchmarks/models.py --again
	$(BIN)/python benchmarks/report.py

scale: $(VENV)/.dev         ## kills of actors, nodes and drivers on a Ray cluster of this machine
	$(BIN)/pytest -m slow tests/run/test_ray_failures.py -o faulthandler_timeout=240 -o faulthandler_exit_on_timeout=true

experiments: $(VENV)/.user  ## train on videos whose class is the order of frames (goes on where it stopped)
	$(BIN)/python benchmarks/experiments/experiments.py

clean:
	rm -rf $(VENV) demo dist site build
