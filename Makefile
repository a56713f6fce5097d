# `make run` and `make test` install all that they need. `make help` lists the other commands.

# The first version that starts: pyenv has commands for versions that are not active.
PYTHON ?= $(shell for name in python3.11 python3.12 python3.13; do \
	$$name -c "" >/dev/null 2>&1 && { echo $$name; break; }; done)
PORT ?= 3000
API_PORT ?= 8001
BUILDER_PORT ?= 3002
WORKERS ?= 3
PYTEST_ARGS ?=
BENCH_ARGS ?=
HOUSE_ARGS ?=
VERSIONS_ARGS ?=

BIN := .venv/bin/python
GENERATE_LOCK = $(BIN) -m uv pip compile --quiet --universal --python-version 3.11 --upgrade \
	--generate-hashes --no-strip-extras --no-header --no-annotate \
	--no-emit-index-url --no-emit-find-links

# The sample's data set requires these, but nothing uses them, and pyarrow imports them if they are installed.
UNUSED := --no-emit-package pandas --no-emit-package numpy

# The optional packages, which the tests have and `make run` doesn't.
EXTRAS := --extra logins --extra aws --extra postgres
# Those of the newest versions only: with the oldest ones they would raise the bounds of our own packages.
NEWEST := $(EXTRAS) --extra builder --extra mcp --extra delta --extra iceberg --group dg

.DEFAULT_GOAL := help
.PHONY: help run test test-faults test-all test-versions check format lint types docs bench bench-quick house lock clean reset

help: ## List the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-13s %s\n", $$1, $$2}'

run: .venv/run.stamp ## Set up, then start the sample API, Dagster and the builder (PORT=3000, API_PORT=8001, BUILDER_PORT=3002)
	@$(BIN) -m sample.run --port "$(PORT)" --api-port "$(API_PORT)" --builder-port "$(BUILDER_PORT)"

test: .venv/dev.stamp .venv/node.stamp ## Set up, then run the tests (PYTEST_ARGS=...)
	@$(PYTEST) -m "not faults" $(PYTEST_ARGS)

test-faults: .venv/dev.stamp ## Test with failing APIs, networks and machines, and print what was survived
	@$(PYTEST) -m faults -p restsource_dagster_tests.fault_table restsource_dagster_tests/faults $(PYTEST_ARGS)

test-all: .venv/dev.stamp .venv/node.stamp ## Run the tests of both in one go
	@$(PYTEST) -p restsource_dagster_tests.fault_table $(PYTEST_ARGS)

test-versions: .venv/dev.stamp ## Test the oldest and newest versions with each Python (VERSIONS_ARGS=--quick)
	@$(MEMORY) $(BIN) -m tools.versions --workers $(WORKERS) $(VERSIONS_ARGS)

# dlt reads an environment variable of this name as the number of processes to start.
unexport WORKERS

# The tests start many processes, and each of them starts faster with compiled modules.
test test-faults test-all test-versions: export PYTHONDONTWRITEBYTECODE :=

# The tests write many small files and databases. They go to memory if enough is free.
MEMORY = $(shell df -Pm /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 >= 4000 { print "TMPDIR=/dev/shm" }')
PYTEST = $(MEMORY) $(BIN) -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# mypy has one core for a minute, in which the tests that wait for Dagster leave one idle.
check: ## Format, lint, types and all tests: what CI runs
	@$(MAKE) --no-print-directory --jobs=2 .venv/dev.stamp .venv/node.stamp
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory --jobs=2 types test-all

format: .venv/dev.stamp ## Format the code
	@$(BIN) -m ruff format .
	@$(BIN) -m ruff check --fix .

lint: .venv/dev.stamp ## Check format and lint rules
	@$(BIN) -m ruff format --check .
	@$(BIN) -m ruff check .

types: .venv/dev.stamp ## Check types
	@$(BIN) -m mypy

docs: .venv/dev.stamp ## Generate the reference documents and the JSON Schema
	@$(BIN) -m restsource_dagster.connector.reference_docs
	@$(BIN) -m restsource_dagster.cli.reference > docs/cli.md

# The peers of the benchmarks need other versions of libraries, so each has its own environment.
PEERS := airbyte tap target
PEER_STAMPS := $(PEERS:%=.venv/peers/%.stamp)

bench: .venv/run.stamp $(PEER_STAMPS) ## Measure everything and write docs/performance.md (BENCH_ARGS=...)
	@$(BIN) -m benchmarks $(BENCH_ARGS)
	@$(BIN) -m benchmarks.publish

bench-quick: .venv/run.stamp $(PEER_STAMPS) ## Run small benchmarks, in minutes, and print the report
	@$(BIN) -m benchmarks --quick $(BENCH_ARGS)

house: .venv/run.stamp ## Print the figures of the code and the earlier ones (HOUSE_ARGS=--verbose)
	@$(BIN) -m tools.house --compare tools/house_before.json $(HOUSE_ARGS)

lock: .venv/setup.stamp ## Update the pinned versions in requirements/
	@$(GENERATE_LOCK) --group setup -o requirements/setup.lock
	@$(GENERATE_LOCK) pyproject.toml --extra builder --group setup --group sample $(UNUSED) -c requirements/setup.lock -o requirements/run.lock
	@$(GENERATE_LOCK) pyproject.toml $(NEWEST) --group setup --group sample --group dev $(UNUSED) -c requirements/run.lock -o requirements/dev.lock
	@$(GENERATE_LOCK) pyproject.toml $(EXTRAS) --resolution lowest-direct -o requirements/oldest.lock
	@$(GENERATE_LOCK) pyproject.toml $(EXTRAS) --group setup --group sample --group dev $(UNUSED) -c requirements/oldest.lock -o requirements/oldest.lock
	@for peer in $(PEERS); do $(GENERATE_LOCK) --group bench-$$peer -o requirements/bench-$$peer.lock || exit 1; done
	@command -v npm >/dev/null || { echo "npm is not there: package-lock.json stays as it is"; exit 0; }; \
		npm install --package-lock-only --omit-lockfile-registry-resolved --no-audit --no-fund --silent

clean: ## Remove installed and built files, but no data
	rm -rf .venv node_modules build dist artifacts *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

reset: ## Delete all loaded data, run history and the sample (data/, .restsource/, .dagster/)
	rm -rf data .restsource sample/data
	find .dagster -mindepth 1 -maxdepth 1 ! -name dagster.yaml -exec rm -rf {} +

# The environment: Python, then the installer, then the packages for `run`, then those for `test`.

$(BIN):
	@command -v "$(PYTHON)" >/dev/null || { echo "Python 3.11, 3.12 or 3.13 is needed, but there is no '$(PYTHON)'. Install it, or say where it is: make $(MAKECMDGOALS) PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { echo "Python 3.11, 3.12 or 3.13 is needed, but '$(PYTHON)' is another version. Say where one is: make $(MAKECMDGOALS) PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" -m venv --clear .venv || { echo "No virtual environment could be made; on Debian and Ubuntu this needs the package python3-venv" >&2; exit 1; }

# uv installs in seconds, pip takes most of a minute. pip is used if uv is not available.
INSTALL = if $(BIN) -m uv --version >/dev/null 2>&1; \
	then $(BIN) -m uv pip install --quiet --compile-bytecode --python $(BIN) $(1) || $(BIN) -m pip install --quiet --disable-pip-version-check $(1); \
	else $(BIN) -m pip install --quiet --disable-pip-version-check $(1); fi

.venv/setup.stamp: requirements/setup.lock | $(BIN)
	@echo "Installing (only after a change of the requirements) ..."
	@$(BIN) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/setup.lock
	@touch $@

.venv/run.stamp: requirements/run.lock pyproject.toml .venv/setup.stamp
	@$(call INSTALL,--no-deps --require-hashes -r requirements/run.lock)
	@$(call INSTALL,--no-deps --no-build-isolation --editable .)
	@touch $@

.venv/dev.stamp: requirements/dev.lock .venv/run.stamp
	@$(call INSTALL,--no-deps --require-hashes -r requirements/dev.lock)
	@touch $@

# If a peer can't be installed, the benchmarks leave it out and say so.
.venv/peers/%.stamp: requirements/bench-%.lock .venv/setup.stamp
	@echo "Installing $* (only for the benchmarks) ..."
	@"$(PYTHON)" -m venv --clear .venv/peers/$*
	@if $(BIN) -m uv pip install --quiet --compile-bytecode --python .venv/peers/$*/bin/python --require-hashes -r $< \
		|| .venv/peers/$*/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $<; \
		then touch $@; else echo "$* can't be installed: the others are measured without it" >&2; fi

# json-server, for the tests that need a second kind of API.
.venv/node.stamp: package.json package-lock.json .venv/setup.stamp
	@if command -v npm >/dev/null; then npm ci --silent --no-audit --no-fund; \
		else echo "npm is not there: the tests that need json-server are skipped"; fi
	@touch $@
