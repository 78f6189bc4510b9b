PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: help setup quickstart test check format clean

help:
	@echo "make quickstart   domain, backbone, both stages, scores, search; writes lbr-model/ (BASELINE=1: and the arm without stage 1)"
	@echo "make test         the fast tests"
	@echo "make check        ruff, mypy"

$(INSTALLED): pyproject.toml constraints-cpu.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed, $$($(PYTHON) --version) was found; try: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q -c constraints-cpu.txt torch
	$(BIN)/python -m pip install -q -c constraints-cpu.txt -e ".[dev]"
	@touch $@

setup: $(INSTALLED)

quickstart: $(INSTALLED)
	$(BIN)/lbr quickstart $(if $(BASELINE),--baseline) $(if $(BACKBONE),--backbone $(BACKBONE))

test: $(INSTALLED)
	$(BIN)/python -m pytest -q

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv quickstart lbr-model lbr-model-*
