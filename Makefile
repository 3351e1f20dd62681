# Sluice from a fresh clone. Needed beforehand: Python >= 3.11, Java >= 17 (a JRE is enough) and make.

SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
NEED := 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))'
# The first interpreter that is new enough and can make an environment; `make PYTHON=/path/to/python` decides otherwise.
PYTHON ?= $(shell for p in python3.11 python3 python3.12 python3.13; do $$p -c $(NEED) >/dev/null 2>&1 && echo $$p && break; done)
JAVA := $(if $(JAVA_HOME),$(JAVA_HOME)/bin/java,java)

TABLE_TESTS := tests/jobs/test_table_job.py tests/jobs/test_table_job_killed.py tests/jobs/test_table_job_recovery.py

.DEFAULT_GOAL := help
.PHONY: help install run test check bench bench-guardrails bench-streams bench-tail bench-soak bench-freshness bench-tables test-faults test-tables browser clean need-python need-java

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(VENV)/installed jars ## install everything into .venv and resolve the jars

run: install ## start the whole stack with the demo provider, send requests through it, show what the tables say
	@exec $(BIN)/sluice up --demo

test: $(VENV)/installed-dev jars browser ## install and run the whole test suite, real broker and real Spark included
	@$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/installed-dev ## ruff, formatting, types, import rules: seconds, no JVM
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo

bench: $(VENV)/installed-dev jars ## the benchmark against LiteLLM's proxy
	@$(BIN)/python -m tests.bench $(ARGS)

bench-guardrails: $(VENV)/installed-dev jars ## how well the guardrails find what they are for, and what they cost
	@$(BIN)/python -m tests.bench.guardrails $(ARGS)

bench-streams: $(VENV)/installed-dev ## what guarded streams hold back, and for how long
	@$(BIN)/python -m tests.bench.held_back $(ARGS)

bench-tail: $(VENV)/installed-dev jars ## what slow calls do to the others' latency: a quarter of an hour
	@$(BIN)/python -m tests.bench.tail $(ARGS)

bench-soak: $(VENV)/installed-dev jars ## 200,000 requests, a restart every 20,000, and the memory of all parts: a quarter of an hour
	@$(BIN)/python -m tests.bench.soak $(ARGS)

bench-freshness: $(VENV)/installed-dev jars ## from answer to queryable row at 100 requests a second: a quarter of an hour
	@$(BIN)/python -m tests.bench.freshness $(ARGS)

bench-tables: $(VENV)/installed-dev jars ## the table job alone, with small tables and with a million rows: a quarter of an hour
	@$(BIN)/python -m tests.bench.tables $(ARGS)

test-faults: $(VENV)/installed-dev jars ## the fault suite: load while processes die, stop, come and go, then all tests of the fault matrix
	@$(BIN)/python -m tests.faults $(ARGS)

ZONES ?= Asia/Kolkata Asia/Kolkata Asia/Kolkata America/St_Johns Pacific/Chatham
test-tables: $(VENV)/installed-dev jars ## the table job on a Spark cluster, then its tests with the crash matrix, three times, and in two other time zones
	@$(BIN)/python -m pytest -m '' tests/jobs/test_cluster.py tests/jobs/test_large_records.py $(ARGS)
	@for zone in $(ZONES); do echo "SLUICE_TEST_ZONE=$$zone"; \
	  SLUICE_TEST_ZONE=$$zone $(BIN)/python -m pytest -m '' $(TABLE_TESTS) $(ARGS) || exit 1; done

browser: ## Debian's Chromium, which the tests of the dashboard's page need
	@command -v chromium >/dev/null || { echo "installing chromium"; apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium >/dev/null; }

clean: ## remove .venv and all caches (the data folder .sluice stays)
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: jars
jars: need-java
	@$(BIN)/python -c 'from pipeline.stack import jars; jars.kafka_jars(); jars.spark_jars()'

$(VENV)/installed: pyproject.toml constraints.txt | need-python need-java
	@echo "installing into $(VENV) (once; some minutes on a slow line)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	@echo "installing what tests and checks need"
	@$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev]'
	@touch $@

need-python:
	@test -n "$(PYTHON)" && $(PYTHON) -c $(NEED) >/dev/null 2>&1 || { \
	  echo "Sluice needs Python >= 3.11 with venv and pip, and found none: apt-get install python3.11 python3.11-venv" >&2; \
	  echo "(or: make PYTHON=/path/to/python3.11)" >&2; exit 1; }

need-java:
	@version=$$("$(JAVA)" -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p' | head -n 1); \
	if [ -z "$$version" ]; then \
	  echo "Sluice needs Java >= 17 and '$(JAVA)' is none: apt-get install openjdk-17-jre-headless" >&2; exit 1; \
	elif [ "$$version" -lt 17 ]; then \
	  echo "Sluice needs Java >= 17, but '$(JAVA)' is version $$version: apt-get install openjdk-17-jre-headless" >&2; exit 1; \
	fi
