# What can be done here: `make help`
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/installed
DOCS_INSTALLED := .venv/docs-installed

export NO_MKDOCS_2_WARNING := 1

# Compiled code is kept, whatever the environment says of it: without it each start takes twice as long.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo test test-all test-min audit check docs docs-serve format release experiments bench quality pictures ui clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Python compiles what is imported, a part of what pip would compile in a minute.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable '.[demo,dev]'
	@touch $@

install: $(INSTALLED) ## install everything into .venv, at the versions of constraints.txt

$(DOCS_INSTALLED): $(INSTALLED)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[docs]'
	@touch $@

demo: $(INSTALLED) ## fine-tune MiniLM on WordNet supersenses: no hub, no account
	$(BIN)/hydratune

PYTEST := $(BIN)/pytest --numprocesses auto --dist worksteal

test: $(INSTALLED) ## run the tests that take at most a few seconds each
	$(PYTEST) -m 'not slow'

test-all: $(INSTALLED) ## run all tests
	$(PYTEST)

test-min: ## run the fast tests with the lowest versions that pyproject.toml allows, in .venv-min
	$(PYTHON) -m venv .venv-min
	.venv-min/bin/pip install --quiet uv
	.venv-min/bin/uv pip install --quiet --python .venv-min --resolution lowest-direct --editable '.[demo,dev]'
	.venv-min/bin/pytest --numprocesses auto --dist worksteal -m 'not slow'

audit: $(INSTALLED) ## look for known vulnerabilities of the installed packages, where PyPI's advisories can be reached
	$(BIN)/python tests/audit.py

check: $(INSTALLED) audit ## lint, check types and formatting, look for known vulnerabilities
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(DOCS_INSTALLED) ## build the docs site into site/; broken links are errors
	$(BIN)/mkdocs build --strict --quiet

docs-serve: $(DOCS_INSTALLED) ## serve the docs site on http://127.0.0.1:8000
	$(BIN)/mkdocs serve

format: $(INSTALLED) ## format the code and apply automatic fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

release: $(INSTALLED) ## build the wheel, check it in an empty environment, print the section of the changelog
	rm -rf dist
	$(BIN)/python -m build --outdir dist
	$(PYTHON) -m venv --clear dist/venv
	dist/venv/bin/pip install --quiet --constraint constraints.txt "$$(ls dist/*.whl)[demo]"
	cd dist && venv/bin/hydratune --version && venv/bin/hydratune --dry-run
	rm -rf dist/venv
	@awk '/^## / { sections++ } sections == 1' CHANGELOG.md

experiments: $(INSTALLED) ## run every experiment that works offline, and compare it with baselines (40 minutes)
	$(BIN)/python benchmarks/experiments.py

bench: $(INSTALLED) ## run all benchmarks but those of quality (an hour or more)
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/throughput.py
	$(BIN)/python benchmarks/gpu.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/evaluation_memory.py
	$(BIN)/python benchmarks/scale.py
	$(BIN)/python benchmarks/tracking.py
	$(BIN)/python benchmarks/sweep.py
	$(BIN)/python benchmarks/soak.py

quality: $(INSTALLED) ## train hydratune and the course's script over five seeds (hours); resumes after an interruption
	$(BIN)/python benchmarks/quality.py
	$(BIN)/python benchmarks/time_to_quality.py

pictures: $(INSTALLED) ## make the README's pictures from eight real runs (needs chromium and chromium-driver)
	$(BIN)/python docs/make_pictures.py

ui: $(INSTALLED) ## open MLflow on the runs of this directory
	$(BIN)/hydratune ui

clean: ## remove the environment and caches; runs stay
	rm -rf .venv build dist src/*.egg-info .mypy_cache .pytest_cache .ruff_cache
