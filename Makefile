# `make` lists what there is to do. All of it happens in a virtual environment of the checkout's
# own, .venv, which each target makes, or brings up to date, first.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_OUTPUT := build/demo/wordcount
# Handed on to pytest or to the benchmark: make test ARGS="-k spill -x"
ARGS ?=
# For make simulate.
SEEDS ?= 0:10000
# For make bench: rows whose names contain one of these, and how often each is run.
ROWS ?=
RUNS ?=

# All that an installation is made of: when one of these changes, comes or goes, pytxmr is installed
# anew.
SOURCES := $(sort $(wildcard setup.py pyproject.toml MANIFEST.in README.md LICENSE) \
	$(shell find pytxmr twisted examples -name __pycache__ -prune \
		-o -type f ! -name dropin.cache -print))

# What these name would come before the installed package.
unexport PYTHONPATH
unexport PYTHONHOME
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# PySpark, 400 MB, is for tests that want Java as well.
JAVA := $(shell command -v java)

# As text, a comma would end an argument of `call`.
comma := ,

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help demo test simulate lint format docs bench bench-micro clean FORCE

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.installed ## count the words of War and Peace, and show the most frequent ten
	@rm -rf $(DEMO_OUTPUT)
	@mkdir -p $(dir $(DEMO_OUTPUT))
	$(BIN)/pytxmr run examples/wordcount.py examples/data/warandpeace.txt --output $(DEMO_OUTPUT)
	@echo
	@echo "The ten most frequent words:"
	@cat $(DEMO_OUTPUT)/part-* \
		| LC_ALL=C sort -t "$$(printf '\t')" -k 2,2nr -k 1,1 \
		| awk -F '\t' 'NR <= 10 { printf "  %-10s %8d\n", $$1, $$2 }'
	@echo
	@echo "All the counts are in $(CURDIR)/$(DEMO_OUTPUT)/"

# The command `pytest` and not `python -m pytest`, which would put the checkout on sys.path. Two
# files of tests at a time: more would be slower than daemons and workers expect a machine to be.
test: $(VENV)/.installed-test ## install pytxmr, and run the tests on what is installed
	@$(if $(JAVA),,echo "There is no Java here: the tests on Apache Spark are left out.")
	PYTXMR_TEST_INSTALLED=1 $(BIN)/pytest -n 2 --dist loadfile $(ARGS)

simulate: $(VENV)/.installed ## run 10,000 simulated clusters, each with faults of its own; SEEDS=A:B
	$(BIN)/python -P -m pytxmr.simulation --seeds $(SEEDS) --jobs 2

lint: $(VENV)/.installed-lint ## check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy pytxmr

format: $(VENV)/.installed-lint ## put imports and code into the format that lint asks for
	$(BIN)/ruff check --select I --fix .
	$(BIN)/ruff format .

# The benchmark makes virtual environments of its own, for pytxmr and for each peer, in build/bench.
docs: $(VENV)/.installed ## write docs/reference.md anew, from docstrings and parsers
	$(BIN)/python -P docs/make_reference.py

bench: $(VENV)/.made-for ## measure pytxmr against its peers; ROWS=NAME,... (or list) RUNS=5
	$(BIN)/python -m benchmarks $(if $(ROWS),--rows $(ROWS)) $(if $(RUNS),--runs $(RUNS)) $(ARGS)

bench-micro: $(VENV)/.installed-bench ## measure codec, folds, sort buffer and merge against plain loops
	$(BIN)/pytest benchmarks/micro $(ARGS)

clean: ## remove .venv, and all that was built
	rm -rf $(VENV) build dist pytxmr.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	rm -f pytxmr/records/_gather.*.so
	find benchmarks examples pytxmr tests twisted -name __pycache__ -prune -exec rm -rf {} + \
		2>/dev/null || true

# The virtual environment. Its scripts name the directory they were made for, so in a checkout that
# was copied or moved it is made anew.
ifneq ($(shell cat $(VENV)/.made-for 2>/dev/null),$(CURDIR))
$(VENV)/.made-for: FORCE
endif
$(VENV)/.made-for:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "pytxmr needs Python 3.11 or newer, which '$(PYTHON)' is not." \
			"Name one that is: make PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "'$(PYTHON)' cannot make virtual environments. On Debian and Ubuntu:" \
			"apt-get install python3-venv" >&2; exit 1; }
	@echo "Making $(VENV)"
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@echo "$(CURDIR)" > $@

# $(call install,EXTRAS). What setuptools left in build/ goes first, as modules that are no more
# would be installed from there. A stamp has the time at which its installation began, so that what
# changed meanwhile counts as newer.
define install
	@echo "Installing pytxmr$(1) into $(VENV)"
	@rm -rf build/lib build/bdist.* pytxmr.egg-info
	@touch $(VENV)/.begun
	@$(BIN)/python -m pip install -qq '.$(1)'
	@cp -p $(VENV)/.begun $(VENV)/.installed
	@cp -p $(VENV)/.begun $@
endef

$(VENV)/.sources: FORCE | $(VENV)/.made-for
	@printf '%s\n' $(SOURCES) | cmp -s - $@ || printf '%s\n' $(SOURCES) > $@

$(VENV)/.installed: $(VENV)/.made-for $(VENV)/.sources $(SOURCES)
	$(call install,)

$(VENV)/.installed-test: $(VENV)/.made-for $(VENV)/.sources $(SOURCES)
	$(call install,[test$(if $(JAVA),$(comma)spark)])

$(VENV)/.installed-bench: $(VENV)/.made-for $(VENV)/.sources $(SOURCES)
	$(call install,[test$(comma)bench])

# Lint reads the checkout: it needs the tools and what pytxmr depends on, not the newest pytxmr.
$(VENV)/.installed-lint: $(VENV)/.made-for setup.py pyproject.toml
	$(call install,[lint])
