# `make demo` and `make test` each work as the first command on a machine with make and Python 3.11 or later.
# Another interpreter beside the first: make test VENV=.venv-3.12 PYTHON=python3.12

VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=
RUNS ?= 1
NODE := benchmarks/node/node_modules
BENCHMARKS := cold_vs_pooled call_overhead makeup large_values updates scale floors  # each a script of benchmarks/

# Tried by running it: a shim may be there and refuse, and Debian's python3 may lack venv.
PROBE := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for python in python3.13 python3.12 python3.11 python3; do \
	if $$python -c '$(PROBE)' >/dev/null 2>&1; then echo $$python; break; fi; done)

# The one makes every worker compile the package anew, the other hides prints that come late.
unexport PYTHONDONTWRITEBYTECODE PYTHONUNBUFFERED
# It checks against the python of PATH; --verifytypes does not heed --pythonpath.
PYRIGHT = PATH="$(abspath $(BIN)):$$PATH" pyright
# Otherwise pyright asks the index at each run whether there is a newer one.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.DEFAULT_GOAL := help
.NOTPARALLEL:  # two pips in one environment disturb each other

.PHONY: help
help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV)/.demo  ## Start the kitten service, send it requests, kill a worker, compare cold and pooled
	$(BIN)/python docs/examples/kittens/demo.py $(ARGS)

.PHONY: test
test: $(VENV)/.test  ## Run the test suite; ARGS="-k name -x" goes to pytest
	$(BIN)/python -m pytest $(ARGS)

.PHONY: check
check: $(VENV)/.lint $(VENV)/.typing  ## Check format, lint and types
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(PYRIGHT)
	$(PYRIGHT) --verifytypes asyncpool --ignoreexternal

.PHONY: format
format: $(VENV)/.lint  ## Format the code and mend what ruff can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

.PHONY: bench
bench: $(VENV)/.bench $(NODE)/.installed  ## Measure everything against every peer (25 minutes), RUNS times, and write the page
	@rm -rf benchmarks/results/run-*; failed=0; for run in $$(seq -w $(RUNS)); do for name in $(BENCHMARKS); do \
		$(BIN)/python benchmarks/$$name.py --svg --json benchmarks/results/run-$$run/$$name.json $(ARGS) || failed=1; \
	done; done; \
	$(BIN)/python benchmarks/report.py --results benchmarks/results/run-* && exit $$failed

# Of the npm registry; without node or without the registry its pools are told as not measured.
$(NODE)/.installed: benchmarks/node/package.json
	@mkdir -p $(NODE)
	@cd benchmarks/node && npm install --no-audit --no-fund --silent && touch node_modules/.installed || \
		echo "The pools of Node could not be installed by npm, and will not be measured." >&2

.PHONY: simulate
simulate: $(VENV)/.bench  ## Run ten thousand simulated workers on a fake clock, against queueing theory
	$(BIN)/python benchmarks/simulate.py --svg $(ARGS)

.PHONY: soak
soak: $(VENV)/.bench  ## Send a million calls through a pool in constant trouble, on both loops (an hour)
	$(BIN)/python benchmarks/soak.py --svg $(ARGS)

.PHONY: docs
docs: $(VENV)/.docs  ## Build the documentation into build/docs; a broken link or anchor fails
	$(BIN)/zensical build --strict --clean

.PHONY: mutants
mutants: $(VENV)/.test  ## Break each promise in a copy, and see that a test notices; ARGS="--list" or names
	$(BIN)/python -m tests.mutants $(ARGS)

.PHONY: clean
clean:  ## Remove the virtual environments, caches and builds
	rm -rf .venv .venv-* .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# $(VENV)/.GROUP stands for: that dependency group of pyproject.toml is installed, and the package itself.
$(VENV)/.%: pyproject.toml | $(VENV)/.pip
	@echo "Installing what the group '$*' names into $(VENV) (once)"
	@$(BIN)/python -m pip install --quiet --editable . --group $*
	@touch $@

# pip knows dependency groups since 25.1.
$(VENV)/.pip:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or later with venv was found (Debian: apt-get install python3-venv)." \
		"Install one, or name it: make PYTHON=/path/to/python3" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@touch $@
