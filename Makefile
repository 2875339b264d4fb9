# Every target runs inside .venv, which scripts/bootstrap makes from any Python 3.11+ when it is missing or out of date.
# Paths are relative throughout, so that a checkout may lie in a directory with spaces in its name.

.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
SHELL := /bin/sh
# The tests start hundreds of processes, each of which would compile everything.
unexport PYTHONDONTWRITEBYTECODE

PY := .venv/bin/python
ARGS ?=
JOBS ?= 5
SIDE_BY_SIDE = --numprocesses $(JOBS) --dist worksteal
MEASURED ?=
PYTEST = $(PY) -m $(if $(MEASURED),coverage run -m) pytest $(SIDE_BY_SIDE)
IF_FAILED ?=
FILE ?=
NAME ?=
TITLE ?=
DOCKER_DSN := postgresql://postgres:postgres@127.0.0.1:$${MAINSTAY_PORT:-5432}/mainstay

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} \
		/^## / {printf "\n%s\n", substr($$0, 4)} \
		/^[a-z0-9-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' Makefile

.PHONY: venv
venv:
	@PYTHON='$(PYTHON)' sh scripts/bootstrap

## First steps

.PHONY: demo
demo: venv ## Run the main job: 10,000 commands, worker processes, one killed on the way
	@.venv/bin/mainstay demo $(ARGS)

.PHONY: bank
bank: venv ## Run the example: a bank, its transfers, and its books (ARGS=--serve: and its web interface)
	@$(PY) -m examples.bank $(ARGS)

.PHONY: test
test: venv ## Run every test that is not thorough, JOBS of them (5) side by side
	@$(PYTEST) -m 'not thorough and not browser' $(ARGS) $(IF_FAILED)

.PHONY: install
install: venv ## Make .venv with everything that running and developing needs (uv inside it)

.PHONY: install-dev
install-dev: venv ## The same as install

## Tests

.PHONY: test-thorough
test-thorough: venv ## Run the thorough tests: what repeats elsewhere, or more often, what `make test` has shown
	@$(PYTEST) -m thorough $(ARGS) $(IF_FAILED)

.PHONY: test-all
test-all: venv ## Run all tests, but for those in a browser
	@$(PYTEST) -m 'not browser' $(ARGS) $(IF_FAILED)

.PHONY: test-unit
test-unit: venv ## Run the tests that need no server
	@$(PY) -m pytest $(SIDE_BY_SIDE) tests/unit $(ARGS)

.PHONY: test-integration
test-integration: venv ## Run the tests against PostgreSQL (embedded, or MAINSTAY_TEST_DSN)
	@$(PY) -m pytest $(SIDE_BY_SIDE) tests/integration $(ARGS)

.PHONY: test-e2e
test-e2e: venv ## Run the tests of whole programs
	@$(PY) -m pytest tests/e2e $(ARGS)

.PHONY: test-browser
test-browser: browser ## Run the tests of the console in a headless Chromium
	@$(PY) -m pytest tests/browser $(ARGS)

.PHONY: screenshots
screenshots: browser ## Take the documentation's pictures of the console, at work (ARGS='--minutes 14': full charts)
	@$(PY) -m tests.browser.screenshots $(ARGS)

.PHONY: browser
browser: venv ## Install a Chromium for them, where there is none
	@$(PY) -m tests.support.chromium

.PHONY: test-file
test-file: venv ## Run one file: make test-file FILE=tests/unit/test_retry.py
	@test -n '$(FILE)' || { echo 'Name the file: make test-file FILE=tests/unit/test_retry.py' >&2; exit 2; }
	@$(PY) -m pytest '$(FILE)' $(ARGS)

.PHONY: coverage
coverage: venv ## Run all tests and report line and branch coverage, at least 80 %
	@$(PY) -m coverage erase
	@$(MAKE) test-all MEASURED=yes
	@$(MAKE) coverage-report

.PHONY: coverage-report
coverage-report: venv ## Put together what runs with MEASURED=yes have covered, at least 80 %
	@$(PY) -m coverage combine --quiet
	@$(PY) -m coverage report --fail-under=0
	@$(PY) -m coverage json --quiet --fail-under=0 -o coverage.json
	@$(PY) scripts/coverage_gate.py coverage.json

.PHONY: test-coverage
test-coverage: coverage ## The same as coverage

.PHONY: coverage-html
coverage-html: coverage ## Coverage, line by line, in htmlcov/index.html
	@$(PY) -m coverage html --quiet --fail-under=0 && echo 'See htmlcov/index.html'

.PHONY: chaos
chaos: venv ## Break things for a long while (ten minutes, then a million events) and print the figures
	@$(PY) -m tests.chaos $(ARGS)

.PHONY: chaos-smoke
chaos-smoke: venv ## Break things, in the short form that CI runs
	@$(PY) -m pytest tests/chaos $(ARGS)

.PHONY: bench
bench: venv ## Measure speed beside the peers, in one run on one server
	@$(PY) -m benchmarks $(ARGS)

.PHONY: bench-smoke
bench-smoke: venv ## See that every benchmark runs; asserts nothing about time
	@$(PY) -m benchmarks --smoke $(ARGS)

.PHONY: watch
watch: venv ## Run the unit tests on every change
	@$(PY) -m watchfiles '$(PY) -m pytest -x -q tests/unit $(ARGS)' src tests

## Code

.PHONY: ready
ready: format lint typecheck contracts coverage ## Everything that must hold before a change is handed in

.PHONY: check
check: venv ## Format, lint, types and contracts, changing nothing
	@$(PY) -m ruff format --check .
	@$(MAKE) lint typecheck contracts

.PHONY: format
format: venv ## Format the code and apply safe fixes
	@$(PY) -m ruff check --fix-only --quiet .
	@$(PY) -m ruff format .

.PHONY: lint
lint: venv ## Lint with ruff
	@$(PY) -m ruff check .

.PHONY: typecheck
typecheck: venv ## Check types with mypy, strictly
	@$(PY) -m mypy

.PHONY: contracts
contracts: venv ## Check that rooms import only lower floors, and drivers only in storage
	@.venv/bin/lint-imports

.PHONY: pre-commit
pre-commit: venv ## Check every commit from now on, the 80 % gate included
	@$(PY) -m pre_commit install

.PHONY: migration
migration: venv ## Start a migration: make migration NAME=add_priority
	@$(PY) scripts/numbered.py migration '$(NAME)'

.PHONY: adr
adr: venv ## Start a decision page: make adr TITLE='Leases renew themselves'
	@$(PY) scripts/numbered.py adr '$(TITLE)'

.PHONY: reference
reference: venv ## Write docs/reference anew from the code, the CLI's help and the SQL
	@$(PY) scripts/reference.py

.PHONY: schema
schema: venv ## Write schema/snapshot.sql and objects.tsv anew from migrations and functions
	@$(PY) -m mainstay.storage.postgres.snapshot

.PHONY: requirements
requirements: venv ## Pin the newest versions in requirements-dev.txt
	@.venv/bin/uv pip compile pyproject.toml --group dev --all-extras --universal --python-version 3.11 \
		--generate-hashes --upgrade --quiet --custom-compile-command 'make requirements' \
		--no-emit-package mainstay --output-file requirements-dev.txt

.PHONY: build
build: venv ## Build the wheel and the source distribution into dist/
	@rm -rf dist
	@.venv/bin/uv build --quiet --no-build-isolation --python $(PY) --out-dir dist
	@ls dist

.PHONY: clean
clean: ## Remove what tools left behind, the environment included
	rm -rf .venv build dist htmlcov .coverage .coverage.* coverage.json .mypy_cache .pytest_cache .ruff_cache .hypothesis \
		.import_linter_cache
	find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +

## Docker, for those who prefer a server of their own

.PHONY: docker-up
docker-up: ## Start PostgreSQL with PGMQ
	@docker compose up --detach --wait
	@echo "DATABASE_URL=$(DOCKER_DSN)"

.PHONY: docker-down
docker-down: ## Stop the containers; the data stays
	@docker compose down

.PHONY: docker-logs
docker-logs: ## Follow the server's log
	@docker compose logs --follow postgres

.PHONY: docker-psql
docker-psql: ## Open psql in the container
	@docker compose exec postgres psql --username postgres mainstay

.PHONY: e2e-setup
e2e-setup: venv ## Bring the Docker server's schema up to date
	@.venv/bin/mainstay schema upgrade --dsn "$${DATABASE_URL:-$(DOCKER_DSN)}"

.PHONY: e2e-app
e2e-app: venv ## Serve the console and its load generator at http://localhost:5001 (DATABASE_URL, the Docker server, or its own)
	@cd tests/e2e && "$(CURDIR)/$(PY)" -m app $(ARGS)
