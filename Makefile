# The vocabulary of the project; `make help` lists it. Everything is one call of the CLI.
.DEFAULT_GOAL := help
SHELL := /bin/bash
RECIPE ?= sample-aami5
MIRROR ?=
PORT ?=
BASE ?= origin/main

# uv of the machine, else one that pip puts beside the project.
UV := $(shell command -v uv || echo .uv/bin/uv)
PYTHON ?= python3.11
BIN := .venv/bin
RUN := $(if $(MIRROR),ECGBEATS_MIRROR="$(MIRROR)") PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/ecgbeats

export DO_NOT_TRACK := true
export DVC_NO_ANALYTICS := 1
export ITERATIVE_DO_NOT_TRACK := 1
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export MLFLOW_DISABLE_TELEMETRY := true
export GX_ANALYTICS_ENABLED := False
export BENTOML_DO_NOT_TRACK := True
export ORT_DISABLE_TELEMETRY := 1
export TF_CPP_MIN_LOG_LEVEL := 3

# Names of branches and tags are other people's words: the shell reads them as variables, so that
# nothing in them is run.
export BASE TAG

.PHONY: help setup run repro gate test test-real test-faults lint format serve mlflow prefect benchmark \
	job-summary clean uv audit upgrade tell-broken fuzz benchmark-serving benchmark-scale changed review remote pull \
	dist publish licences

help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: $(BIN)/.ready ## The locked environment in .venv (other targets call it)

uv:
	@command -v $(UV) >/dev/null || { $(PYTHON) -m venv .uv && .uv/bin/pip install -q uv; }

$(BIN)/.ready: pyproject.toml uv.lock | uv
	# Compiled once: where Python may not write bytecode, every start would compile all it imports.
	$(UV) sync --frozen --compile-bytecode --python $(PYTHON)
	$(BIN)/python -m compileall -q src pipelines bento
	@touch $@

run: setup ## The whole flow; fails unless the gate passes [RECIPE=...] [MIRROR=folder or URL]
	@$(RUN) run $(RECIPE)

repro: setup ## The files alone, by DVC without Prefect [RECIPE=...] [MIRROR=...]
	@$(if $(MIRROR),ECGBEATS_MIRROR="$(or $(realpath $(MIRROR)),$(MIRROR))") PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/dvc repro verdict@$(RECIPE) reference@$(RECIPE)

gate: setup ## Fails unless the recipe's model passed [RECIPE=...]
	@$(RUN) gate $(RECIPE)

test: setup ## All tests that need nothing but this clone
	@# Each worker has a processor: what it starts is quicker on one thread.
	@OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 TF_NUM_INTEROP_THREADS=1 PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pytest -n auto --maxprocesses 4 --dist loadscope --no-loadscope-reorder -m "not real_data and not faults"

test-real: setup ## Tests on MIT-BIH: make test-real MIRROR=folder
	@ECGBEATS_TEST_MITDB="$(realpath $(MIRROR))" PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pytest -m real_data

fuzz: setup ## 5,000 hostile requests to a served bento [N=...] [SEED=...]
	@ECGBEATS_FUZZ_REQUESTS="$(or $(N),5000)" ECGBEATS_FUZZ_SEED="$(or $(SEED),1)" PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pytest -q -s --timeout 7200 tests/service/test_fuzz.py

test-faults: setup ## Kills, full disks, broken services, tampering; reports/faults/ [N=kills a stage] [SEED=...]
	@elsewhere="$$($(BIN)/python -m tests.support.fault_report)" && \
	ECGBEATS_FAULTS="$(or $(N),4)" ECGBEATS_FAULTS_SEED="$(or $(SEED),1)" ECGBEATS_FAULTS_REPORT=reports/faults PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/pytest -n 2 --dist loadscope -p tests.support.fault_report -m "not real_data" tests/faults $$elsewhere

lint: setup ## Format, lint, types, lock, workflows
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(UV) lock --check
	$(BIN)/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(BIN)/zizmor --offline --quiet .github/workflows

audit: uv ## Known vulnerabilities of what is locked (asks osv.dev)
	$(UV) audit --frozen --preview-features audit

licences: setup ## Of all that is locked; fails where one is not stated
	@$(BIN)/python -m pipelines.licences

upgrade: uv ## Lock the newest dependencies within the bounds of pyproject.toml; uv.lock changes
	$(UV) lock --upgrade

tell-broken: ## In CI: open an issue, or add to the open one of that title [WHAT=...]
	@said="See $$GITHUB_SERVER_URL/$$GITHUB_REPOSITORY/actions/runs/$$GITHUB_RUN_ID"; \
	number="$$(gh issue list --state open --search "in:title \"$$WHAT\"" --json number --jq '.[0].number // empty')"; \
	if [[ -n "$$number" ]]; then gh issue comment "$$number" --body "$$said"; \
	else gh issue create --title "$$WHAT" --body "$$said"; fi

format: setup ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

serve: setup ## The newest champion's service on 127.0.0.1:3000, or that of RECIPE's [RECIPE=...]
	@$(RUN) serve $(if $(filter-out file,$(origin RECIPE)),$(RECIPE)) $(if $(PORT),--port $(PORT))

mlflow: setup ## MLflow's UI on what ran
	@$(RUN) ui mlflow $(if $(PORT),--port $(PORT))

prefect: setup ## Prefect's UI on what ran
	@$(RUN) ui prefect $(if $(PORT),--port $(PORT))

benchmark: setup ## What backs each claim of speed: both sides in one run, and their ratio [PROJECT=checkout in which RECIPE ran] [RECIPE=...]
	@$(BIN)/python benchmarks/rendering.py
	@$(BIN)/python benchmarks/detection.py
	@$(BIN)/python benchmarks/reading.py
	@$(BIN)/python benchmarks/inference.py
	@$(BIN)/python benchmarks/training.py
	@$(BIN)/python benchmarks/starting.py "$(or $(PROJECT),.)" "$(RECIPE)"

benchmark-serving: setup ## An image over HTTP: ours and the usual way side by side [SECONDS=5] [ROUNDS=3]
	@$(BIN)/python benchmarks/serving --seconds $(or $(SECONDS),5) --rounds $(or $(ROUNDS),3)

benchmark-scale: setup ## Memory and time of each stage by the number of records
	@$(BIN)/python benchmarks/scale.py

job-summary: ## The verdict as Markdown, to GitHub's job summary or to the screen
	@f=reports/$(RECIPE)/verdict.md; g=reports/$(RECIPE)/gate/verdict.md; [ ! -f $$g ] || [ $$f -nt $$g ] || f=$$g; if [ -f $$f ]; then cat $$f; else echo "no verdict on $(RECIPE): the run stopped before it"; fi >> $${GITHUB_STEP_SUMMARY:-/dev/stdout}

changed: setup ## Recipes that are not as at a commit or branch [BASE=origin/main]
	@$(RUN) changed --base "$$BASE"

review: setup ## Those reproduced, compared with BASE and judged; to GitHub's job summary, or the screen [BASE=...]
	@$(RUN) review --base "$$BASE" $(if $(GITHUB_STEP_SUMMARY),--summary "$(GITHUB_STEP_SUMMARY)")

remote: setup ## DVC's remote by DVC_REMOTE_URL and DVC_REMOTE_ENDPOINT, for this checkout alone; none without them
	@if [ -z "$$DVC_REMOTE_URL" ]; then echo "DVC_REMOTE_URL is not set: no remote"; exit 0; fi; \
	$(BIN)/dvc remote add --local --force --default ci "$$DVC_REMOTE_URL" && \
	if [ -n "$$DVC_REMOTE_ENDPOINT" ]; then $(BIN)/dvc remote modify --local ci endpointurl "$$DVC_REMOTE_ENDPOINT"; fi

pull: setup ## What the DVC remote has of RECIPE, if there is a remote; what it lacks is made by `make run` [RECIPE=...]
	@if [ -z "$$($(BIN)/dvc config core.remote)" ]; then echo "no DVC remote: nothing pulled"; exit 0; fi; \
	$(BIN)/dvc pull --run-cache --force --with-deps verdict@$(RECIPE) || echo "not all is in the remote"

dist: setup ## The champion's bento, tried out, and its release folder as files in dist/ [RECIPE=...]
	@if [ -n "$$ECGBEATS_RELEASE_KEY_PEM" ]; then \
	key=$$(mktemp) && trap 'rm -f "$$key"' EXIT && printf '%s\n' "$$ECGBEATS_RELEASE_KEY_PEM" > "$$key" && export ECGBEATS_RELEASE_KEY="$$key" || exit 1; fi; \
	$(RUN) release $(RECIPE) && $(RUN) release export $(RECIPE) --out dist

publish: ## dist/ as a release on GitHub [TAG=...]
	@[ -n "$$TAG" ] || { echo "publish: expected TAG=..."; exit 2; }
	gh release create "$$TAG" dist/* --title "$$TAG" --generate-notes --verify-tag

clean: ## Remove what runs made (not the environment, not data that were added)
	git clean -fdXq -e '!/data/added/*' -e '!/reports/data/*' data reports
	rm -rf beats dist mlruns mlartifacts mlflow.db .prefect .bentoml .dvc/tmp
	$(if $(wildcard data/added/*.dvc),@echo "kept .dvc/cache: it holds the versions of data that were added",rm -rf .dvc/cache)
