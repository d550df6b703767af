# Everything a contributor or CI does. `make` alone prints this list.
.DEFAULT_GOAL := help
SEED ?= 1
.PHONY: help setup setup-browser demo test check chaos chaos-long chaos-ci bench format lock third-party build clean

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  make %-14s %s\n", $$1, $$2 }'

setup: ## Make .venv from requirements.lock (needs Python 3.11+ and nothing else)
	@bin/setup

setup-browser: ## The Chromium that browser tests drive: from apt when it is missing, as root
	@bin/browser

demo: setup ## Start a local fleet and run a judged, costed mission on it
	@.venv/bin/chimera demo

test: setup ## The whole gate, as CI runs it
	@bin/gate test

check: setup ## The static part of the gate, in seconds
	@bin/gate check

chaos: setup ## Harm a fleet for ten minutes and check that nothing was lost (SEED=1)
	@.venv/bin/chimera chaos run --minutes 10 --faults all --seed $(SEED)

chaos-long: setup ## The same for forty minutes
	@.venv/bin/chimera chaos run --minutes 40 --faults all --seed $(SEED)

chaos-ci: setup ## The short form: three minutes of light faults, then one death of Ray's head
	@.venv/bin/chimera chaos run --minutes 3 --faults light --seed $(SEED)
	@.venv/bin/chimera chaos run --minutes 0.5 --faults head-kill --seed $(SEED)

bench: setup ## Measure a fleet of its own; table, JSON and pictures in bench/results (ONLY="B1 B3")
	@.venv/bin/python -m bench $(ONLY)

format: setup ## Format the code and mend what ruff can
	@.venv/bin/ruff check --fix-only --quiet . && .venv/bin/ruff format .

lock: ## Lock anew after a change of pyproject.toml (UPGRADE=1 for newest versions)
	@bin/lock $(if $(UPGRADE),--upgrade)

third-party: setup ## Write THIRD_PARTY.md anew from what is installed
	@.venv/bin/python bin/third_party.py

build: setup ## Build the wheel and the source archive into dist/
	@bin/uv build --no-build-isolation --no-index --python .venv/bin/python --out-dir dist

clean: ## Remove what the targets above made
	@rm -rf .venv .venv-policy .venv-tools dist build coverage.xml htmlcov .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
