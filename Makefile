# Needs make and python3 (3.11 or newer); everything else is put into .venv, or named where it is missing.
# Another interpreter: make PYTHON=python3.12 test      More arguments: make test ARGS="-k ledger"

PYTHON ?= python3
ARGS ?=
MINUTES ?= 10
# Workers share the tests evenly. Tests with servers wait for much of their time, so two cores have three workers there.
# `make test WORKERS=`: one test after the other.
quick: WORKERS ?= --numprocesses=2 --dist=worksteal
test test-faults: WORKERS ?= --numprocesses=3 --dist=worksteal
BIN := .venv/bin
# Where an image forbids bytecode files, each of the hundreds of processes of the tests would compile all modules.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo quick test test-faults site-test soak scale-test fuzz check servers bench venv constraints

help: ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1|\2/p' Makefile | while IFS='|' read -r name text; do \
	  printf '%-18s %s\n' "$$name" "$$text"; done

demo: venv ## run the whole pipeline on simulated cameras and show its numbers beside the truth
	@$(BIN)/imgpipeline demo $(ARGS)

quick: venv ## run the quick tests, which need no servers: before each commit
	@$(BIN)/python -m pytest $(WORKERS) --hypothesis-profile=quick -m "not medium and not slow and not servers" $(ARGS)

test: venv ## run all tests but the slow ones; those with servers need `make servers` once
	@$(BIN)/python -m pytest $(WORKERS) -m "not slow" $(ARGS)

test-faults: venv ## run the slow tests: killed daemons, long outages, hostile input
	@$(BIN)/python -m pytest $(WORKERS) -m slow $(ARGS)

site-test: venv ## start the services of the compose file in sandboxes, and break some: make site-test ARGS=--short
	@$(PYTHON) .ci/servers.py --site
	@$(BIN)/python -m imgpipeline_tests.compose $(ARGS)

soak: venv ## a steady stream with a random fault every 20 s, then an audit: make soak MINUTES=10
	@$(BIN)/python -m imgpipeline_tests.soak --minutes $(MINUTES) $(ARGS)

scale-test: venv ## 20,000 frames and 60 days on two Celery workers; a worker, Redis and the daemon are killed
	@$(BIN)/python -m imgpipeline_tests.scale $(ARGS)

fuzz: venv ## 100,000 hostile records, 100,000 requests and 3,000 damaged images: each has to end as what is right for it
	@$(BIN)/python -m imgpipeline_tests.fuzz $(ARGS)

check: venv ## lint, formatting, types, and which module may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

servers: python ## install the real servers of the tests: Kafka, S3, PostgreSQL, Hadoop, toxiproxy
	@$(PYTHON) .ci/servers.py

bench: venv ## measure throughput and latency on this machine
	@$(BIN)/python -m benchmarks $(ARGS)

venv: python ## set up .venv (done by the other targets when something changed)
	@$(PYTHON) .ci/setup_venv.py

constraints: python ## resolve and pin all versions again
	@$(PYTHON) .ci/constraints.py

.PHONY: python
python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Python 3.11 or newer is needed; $(PYTHON) is: $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "On Debian or Ubuntu, as root: apt install python3 python3-venv" >&2; \
	  echo "If another version is installed, name it: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; \
	  exit 1; }
