# Everything a contributor or CI does. `make` alone prints this list.
.DEFAULT_GOAL := help
SEED ?= 1
# KubeRay's resource definitions: in the folder that KUBERAY_CRDS names, else fetched.
CRDS = $(if $(KUBERAY_CRDS),,crds)
WITH_CRDS = KUBERAY_CRDS="$${KUBERAY_CRDS:-$$PWD/build/crds}"
.PHONY: help setup setup-browser demo test check lint types security secrets workflows tests manifests audit crds release-check image test-deploy chaos chaos-long chaos-ci bench format lock third-party build clean

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  make %-14s %s\n", $$1, $$2 }'

setup: ## Make .venv from requirements.lock (needs Python 3.11+ and nothing else)
	@bin/setup

setup-browser: ## The Chromium that browser tests drive: from apt when it is missing, as root
	@bin/browser

demo: setup ## Start a local fleet and run a judged, costed mission on it
	@.venv/bin/chimera demo

test: setup $(CRDS) ## The whole gate, as CI runs it
	@$(WITH_CRDS) bin/gate test

check: setup ## The static part of the gate, in a minute
	@bin/gate check

lint: setup ## Of it: style, format and layers
	@bin/gate lint format layers

types: setup ## Of it: mypy, strict
	@bin/gate types

security: setup ## Of it: bandit, and the licences of what is locked
	@bin/gate security licences

secrets: setup ## Of it: no secret in any file
	@bin/gate secrets

workflows: setup ## Of it: the workflows of .github, by their schema and for safety
	@bin/gate workflows

tests: setup $(CRDS) ## The other part of the gate: the tests, and their coverage
	@$(WITH_CRDS) bin/gate browser policy tests ray-tests coverage

manifests: setup $(CRDS) ## Of the tests, those of kuberay/ alone
	@$(WITH_CRDS) bin/gate policy manifests

audit: setup ## Ask osv.dev for advisories on what is locked: needs the network, so `make test` does not
	@bin/gate audit

crds: ## KubeRay's resource definitions into build/crds, where KUBERAY_CRDS may point
	@bin/crds build/crds

release-check: setup ## Whether TAG (v1.2.3) is this tree's version
	@[ "$(TAG)" = "v$$(.venv/bin/hatchling version)" ] || { echo "release-check: $(TAG) is not v$$(.venv/bin/hatchling version)" >&2; exit 1; }

test-deploy: setup ## Build the image, bring the compose stack up, harm it, and check that nothing was lost
	@.venv/bin/python -m pytest tests/deploy --engine -v --capture=sys

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

image: ## Build the one image of all roles (CHIMERA_IMAGE=chimera:dev)
	@docker build --file docker/Dockerfile --tag "$${CHIMERA_IMAGE:-chimera:dev}" .

clean: ## Remove what the targets above made
	@rm -rf .venv .venv-deploy .venv-policy .venv-tools dist build coverage.xml htmlcov .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
