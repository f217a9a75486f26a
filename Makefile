# Set-up in two commands: `make submission` and `make test`. Needs Python 3.11 to 3.14 and git.
#
#   make submission                    the embedded sample
#   make submission SOURCE=<folder>    any folder in the competition's raw layout (or microlens_1m)
#   make submission PARAMS=<file>      with the settings of another file
#   make check                         while developing: lint, types, the tests nearest to a change
#   make check SINCE=<revision>        what changed since then, not since the branch left main
#   make test                          lint, types, every test, the sample in a fresh clone
#   make ... PYTHON=<name or path>     in place of the first found of 3.11, 3.12, 3.13 and 3.14
#   make ... FAISS=cpu or FAISS=gpu    in place of gpu where faiss-gpu works, else cpu
#   make ... UV=                       pip installs, even where uv is found
#
# What SOURCE and PARAMS say is in params.yaml from then on; the earlier file is kept beside it.

VENV ?= .venv
INSTALLED := $(wildcard $(addprefix $(VENV)/.installed-,cpu gpu))
FAISS ?= $(or $(patsubst $(VENV)/.installed-%,%,$(INSTALLED)),auto)
PYTHON ?=
UV ?= $(shell command -v uv 2>/dev/null)
SOURCE ?=
PARAMS ?=
SINCE ?=

TOGETHER := --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
TRUST := tests/benchmarks \
	$(addprefix tests/whole/,chaos determinism fuzz leakage test_documents.py test_end_to_end.py)
# Other tests run beside: threads that wait do not spin, and small products have one.
ALONE := OPENBLAS_NUM_THREADS=1 OMP_WAIT_POLICY=passive
BIN := $(VENV)/bin
ACTIVE := PATH="$(abspath $(BIN)):$$PATH"
INSTALL := -m pipeline.console.install --uv "$(UV)" $(VENV)

# The first of these whose version is in the range; an environment that is there keeps its own.
PYTHONS := $(if $(INSTALLED),$(BIN)/python) python3.11 python3.12 python3.13 python3.14 python3
RANGE := Python 3.11 to 3.14
CHECK := import sys; v = sys.version_info; print('%d.%d' % v[:2]); sys.exit(not (3, 11) <= v < (3, 15))
# It is made anew where its Python is gone, or is another than PYTHON.
version = $(lastword $(shell $(1) -V 2>/dev/null))
STALE := $(if $(INSTALLED),$(if $(filter $(call version,$(or $(PYTHON),$(BIN)/python)),\
	$(call version,$(BIN)/python)),,stale))

.PHONY: submission check test tests lint types audit changed unit end-to-end trust clean stale

submission: $(VENV)/.installed-$(FAISS)
	@git rev-parse --git-dir >/dev/null 2>&1 || git init --quiet
	@$(ACTIVE) python -m pipeline.console.submission --source "$(SOURCE)" --params "$(PARAMS)"

check: lint types changed

# Types and the packages beside the tests, which wait a tenth of the time.
test: lint
	@$(MAKE) --no-print-directory --jobs 3 types audit tests

tests: $(VENV)/.installed-dev
	$(ACTIVE) $(ALONE) pytest $(TOGETHER)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

# Known vulnerabilities and licences of the packages; warns, also of a missing network, and goes on.
audit: $(VENV)/.installed-dev
	@$(BIN)/python -m pipeline.console.audit

# For about a minute.
changed: $(VENV)/.installed-dev
	@$(ACTIVE) python -m tests.support.code.changed "$(SINCE)"

unit: $(VENV)/.installed-dev
	$(ACTIVE) $(ALONE) pytest -m "not slow" $(TOGETHER)

# In a fresh clone and a fresh virtual environment, which has links to the packages of this one.
end-to-end: $(VENV)/.installed-dev
	$(ACTIVE) $(ALONE) pytest -m slow $(TOGETHER)

# Kills, damaged inputs, equal bytes and leaks, many more of each than in `make test`; an installation
# of every package, and another source there; every experiment and view of the report that documents
# and tests speak of; the benchmarks' commands.
trust: $(VENV)/.installed-dev
	$(ACTIVE) pytest --long $(TRUST)

$(addprefix $(VENV)/.installed-,auto cpu gpu): pyproject.toml constraints.txt $(STALE)
	@for python in $(or $(PYTHON),$(PYTHONS)); do \
		found=$$($$python -c "$(CHECK)" 2>/dev/null) && \
			exec $$python $(INSTALL) $(@:$(VENV)/.installed-%=%); \
		refused="$$refused$${found:+$$python is $$found, }"; \
	done; \
	echo "error: $${refused:-none found, }expected $(RANGE); name one: make ... PYTHON=<path>" >&2; exit 1

$(VENV)/.installed-dev: $(VENV)/.installed-$(FAISS)
	@$(BIN)/python $(INSTALL) dev

clean:
	rm -rf $(VENV) scratch
