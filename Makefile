# Set-up in two commands: `make submission` and `make test`. Needs Python 3.11 or 3.12 and git.
#
#   make submission                    the embedded sample
#   make submission SOURCE=<folder>    any folder in the competition's raw layout (or microlens_1m)
#   make submission PARAMS=<file>      with the settings of another file
#   make ... FAISS=gpu                 faiss-gpu in place of faiss-cpu
#
# What SOURCE and PARAMS say is in params.yaml from then on; the earlier file is kept beside it.

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3,$(shell command -v $(name) 2>/dev/null)))
VENV ?= .venv
FAISS ?= cpu
SOURCE ?=
PARAMS ?=

TRUST := $(addprefix tests/whole/,chaos determinism fuzz leakage)
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
ACTIVE := PATH="$(abspath $(BIN)):$$PATH"

.PHONY: submission test lint types audit unit end-to-end trust clean

submission: $(VENV)/.installed-$(FAISS)
	@git rev-parse --git-dir >/dev/null 2>&1 || git init --quiet
	@$(ACTIVE) python -m pipeline.console.submission --source "$(SOURCE)" --params "$(PARAMS)"

test: lint types audit unit end-to-end

lint: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/.installed-dev
	$(BIN)/mypy

# Known vulnerabilities and licences of the packages; warns, also of a missing network, and goes on.
audit: $(VENV)/.installed-dev
	@$(BIN)/python -m pipeline.console.audit

unit: $(VENV)/.installed-dev
	$(ACTIVE) pytest -m "not slow" --numprocesses auto --maxprocesses 4 --dist loadfile

# In a fresh clone and a fresh virtual environment.
end-to-end: $(VENV)/.installed-dev
	$(ACTIVE) pytest -m slow

# Kills, damaged inputs, equal bytes and leaks, many more of each than in `make test`.
trust: $(VENV)/.installed-dev
	$(ACTIVE) pytest --long $(TRUST)

$(VENV)/.installed-cpu $(VENV)/.installed-gpu: $(VENV)/.installed-%: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: no python3.11 or python3.12 found; set PYTHON" >&2; exit 1; }
	@test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	@echo "installing into $(VENV) (some minutes the first time)"
	@rm -f $(VENV)/.installed-*
	@$(BIN)/python -m pip uninstall --quiet --yes faiss-cpu faiss-gpu 2>/dev/null
	$(INSTALL) -e ".[$*]"
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed-$(FAISS)
	$(INSTALL) -e ".[$(FAISS),dev]"
	@touch $@

clean:
	rm -rf $(VENV) scratch
