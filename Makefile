# Everything a person or a machine does with this project. `make` alone lists it.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
SOURCES := service trainables cluster tests
ARGS ?=
REPEATS ?= 5
TESTED ?=
JOBS ?= 1
ONLY ?=
BASELINE ?=

# Only .venv counts: nothing of the system's or the user's site-packages may leak in.
unexport PYTHONPATH PYTHONHOME PIP_USER PIP_TARGET PIP_PREFIX
export PYTHONNOUSERSITE = 1

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-k8s check bench bench-search claims chaos simulation faults fmt clean

help: ## List what can be made
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

# Debian without python3-venv has no ensurepip; the system's pip then fills the new environment.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit("Tuneyard needs Python 3.11 or newer; set PYTHON=/path/to/python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV) || { $(PYTHON) -m venv --clear --without-pip $(VENV) && $(PYTHON) -m pip --python $(BIN)/python install pip; }

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --constraint constraints.txt
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' --constraint constraints.txt
	@touch $@ $(VENV)/.installed

venv: $(VENV)/.installed ## Build .venv with Tuneyard in it

demo: $(VENV)/.installed ## Tune a small ConvNet on scikit-learn's digits and say where to look
	$(BIN)/tuneyard run trainables/recipes/digits.yaml

test: $(VENV)/.installed-dev ## Install what tests need and run them (ARGS="-k name" for some, JOBS=2 for two files at a time)
	$(BIN)/python -m pytest $(if $(filter 1,$(JOBS)),,--numprocesses $(JOBS) --dist loadfile --no-loadscope-reorder) $(ARGS)

test-k8s: $(VENV)/.installed-dev ## Install to a real cluster, run sweeps there, remove it (see k8s/README.md)
	$(BIN)/python -m pytest tests/integration/test_kubernetes.py -rA $(ARGS)

check: $(VENV)/.installed-dev ## Lint, types, architecture
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/mypy --strict
	$(BIN)/python -m pytest --quiet tests/unit/test_architecture.py

bench: $(VENV)/.installed-dev ## Measure what the project promises, beside plain Ray Tune (ARGS="--only name")
	$(BIN)/python -m tests.benchmarks.run $(ARGS)

bench-search: $(VENV)/.installed-dev ## Compare our search with its peers on real learning curves (ARGS="--full --jobs 2")
	$(BIN)/python -m tests.benchmarks.search.run $(ARGS)

claims: $(VENV)/.installed-dev ## Try what people believe of training and tuning, with intervals (ARGS="--only batch_norm")
	$(BIN)/python -m tests.benchmarks.claims.run $(ARGS)

# `make --jobs 2 chaos` has the simulation beside the faults: real sweeps mostly wait, simulated ones never do.
chaos: $(if $(ONLY)$(BASELINE),,simulation) faults ## Do every fault of the README to real sweeps (REPEATS=1 JOBS=2 ONLY="F1 F4" BASELINE=1)

simulation: $(VENV)/.installed-dev ## Its simulated sweeps only, 2000 for each of REPEATS (TESTED=1 leaves out those of `make test`)
	$(BIN)/python -m tests.simulation.run --seeds $$(( 2000 * $(REPEATS) )) $(if $(TESTED),--tested)

faults: $(VENV)/.installed-dev ## Its real sweeps only
	$(BIN)/python -m tests.chaos.run --repeats $(REPEATS) --jobs $(JOBS) $(if $(ONLY),--only $(ONLY)) $(if $(TESTED),--tested) $(if $(BASELINE),--baseline) $(ARGS)

fmt: $(VENV)/.installed-dev ## Format, and mend what the linter can mend
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

clean: ## Remove what was built here (sweeps under the data folder stay)
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis bench.json
