# `make help` lists what there is. Nothing need be prepared: each target makes what it lacks.

CARGO ?= cargo
PYTHON ?= python3
VENV := .venv
REQUIREMENTS := tests/python/requirements.txt

# Asked only where it is used: where cargo puts what it builds.
TARGET_DIR = $(shell $(CARGO) metadata --no-deps --format-version 1 | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')

.DEFAULT_GOAL := help
.PHONY: help setup build run test unit-test integration-test python-test container-test bench profile images format style check kafka-up \
  kafka-down

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | sort | awk -F '\t' '{ printf "  make %-18s %s\n", $$1, $$2 }'

setup: ## fetch everything that building and testing need, so that both work without a network
	$(CARGO) fetch --locked
	if [ -f $(REQUIREMENTS) ]; then $(MAKE) --no-print-directory $(VENV)/ready; fi
	if [ -x scripts/kafka ] && ! docker info >/dev/null 2>&1; then scripts/kafka fetch; fi

build: ## build the program
	$(CARGO) build --locked

run: ## try it out: a Kafka in the process, a broker, a producer and a worker
	$(CARGO) run --locked -- dev

test: ## run every test (those on a real Kafka take the one at TASKBROKER_TEST_KAFKA, else a container, else its jars)
	$(CARGO) test --locked --workspace
	$(MAKE) --no-print-directory python-test

unit-test: ## run the tests inside the crates
	$(CARGO) test --locked --workspace --lib --bins

integration-test: ## run the tests that go through ports, processes and Kafka
	$(CARGO) test --locked --workspace --test '*'

# The binary is built as for the other tests, so that nothing is built twice, and named to the tests; they start it, and
# Kafka, themselves.
python-test: ## run the end-to-end tests with the real Python client
	$(CARGO) test --locked --workspace --no-run
	if [ -f $(REQUIREMENTS) ]; then \
	  $(MAKE) --no-print-directory $(VENV)/ready && \
	  TASKBROKER_TEST_BINARY="$(TARGET_DIR)/debug/taskbroker" $(VENV)/bin/python -m pytest tests/python $(PYTEST_FLAGS); \
	else echo "there is no $(REQUIREMENTS): no Python tests to run"; fi

container-test: ## run the tests that need Docker, with a daemon of their own where none answers (else they are skipped)
	TASKBROKER_TEST_REQUIRE_DOCKER=1 scripts/with-docker $(CARGO) test --locked --test containers

# BENCH_RUNS=1 for a quick look, BENCH_ROWS=pull-64,push for some rows; the figures also go to BENCH_JSON.
bench: ## measure every row of docs/performance.md on this machine, against a Kafka of its own (BENCH_RUNS, BENCH_ROWS, BENCH_FLAGS)
	$(CARGO) build --locked --release -p taskbroker -p taskbroker-load
	"$(TARGET_DIR)/release/taskbroker-load" bench --runs $(or $(BENCH_RUNS),5) $(if $(BENCH_ROWS),--rows $(BENCH_ROWS)) \
	  --json "$(or $(BENCH_JSON),$(TARGET_DIR)/bench.json)" $(BENCH_FLAGS)

profile: ## a flame graph of the broker under load (BENCH_ROWS, one row; needs perf and inferno)
	scripts/profile $(or $(BENCH_ROWS),pull-64)

images: ## make the images of Kafka and the broker on this machine, for docker-compose.yml, without a registry
	scripts/images kafka
	scripts/images broker

format: ## format the source
	$(CARGO) fmt --all

style: ## check the format and the lints
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings

check: style test ## style, then every test

kafka-up: ## start a Kafka on this machine, without Docker, and print its address (KAFKA_PORT=9092 for a fixed port)
	scripts/kafka up $(if $(KAFKA_PORT),--port $(KAFKA_PORT))

kafka-down: ## stop it
	scripts/kafka down

$(VENV)/ready: $(REQUIREMENTS)
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $(REQUIREMENTS)
	touch $@
