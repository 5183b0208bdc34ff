# `make demo` and `make test` install everything into .venv first (once; about 3 minutes and 7 GB with torch's GPU libraries).
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
PYTEST_ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install demo test slow browser docs lint format typecheck clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 12

install: $(STAMP) ## create .venv and install secure-fair, editable, with its tools

# sklearn: CrypTen depends on a placeholder package of that name, which refuses to install without this variable.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
	  echo "error: secure-fair needs Python 3.11 to 3.13, and $(PYTHON) is $$($(PYTHON) --version 2>&1); run make with PYTHON=python3.11" >&2; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	SKLEARN_ALLOW_DEPRECATED_SKLEARN_PACKAGE_INSTALL=True $(BIN)/python -m pip install -c constraints.txt -e '.[dev,bench,browser,docs,dp,examples]'
	@$(BIN)/python -m pip install -q -c constraints.txt --only-binary :all: openmined-psi || \
	  echo "note: no wheel of openmined-psi for this Python or platform; the tests of private set intersection are skipped"
	@touch $@

demo: $(STAMP) ## the whole story on procedural faces, into ./demo
	$(BIN)/secure-fair demo

test: $(STAMP) ## the tests that fit into ten minutes on two cores
	$(BIN)/python -m pytest -n 2 $(PYTEST_ARGS)

slow: $(STAMP) ## the slow tests as well
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

browser: $(STAMP) ## the tests that look at the report in a headless Chromium, which must be installed
	$(BIN)/python -m pytest -m browser $(PYTEST_ARGS)

docs: $(STAMP) ## the documentation as a site, into build/site; a broken link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

lint: $(STAMP) ## style, types and the rules of who may import whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP) ## rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

typecheck: $(STAMP) ## mypy alone
	$(BIN)/mypy

clean: ## remove .venv, caches and built files
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
