# Needs make and Python 3.11 or newer; everything else is installed into .venv.

PROMPT ?= an apple on a blue background
EDIT ?= make the background yellow
SEED ?= 7

PYTHON ?= $(shell for each in python3 python3.13 python3.12 python3.11 python; do \
	"$$each" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo "$$each" && break; done)
BIN := .venv/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt

# As typed, because make would expand dollars in a sentence, and through the environment, because the
# shell would read its quotes.
override PROMPT := $(value PROMPT)
override EDIT := $(value EDIT)
export PROMPT EDIT

.PHONY: demo test test-oldest check gpu-bundle gpu-rehearsal

demo: .venv/installed
	@mkdir -p demo
	@echo "sentence:    $$PROMPT" >&2
	@$(BIN)/deepgen generate "$$PROMPT" --seed $(SEED) --output demo/generated.png --overwrite
	@echo "instruction: $$EDIT" >&2
	@$(BIN)/deepgen edit "$$EDIT" demo/generated.png --seed $(SEED) --output demo/edited.png \
		--overwrite
	@echo "next: source $(BIN)/activate, then deepgen --help" >&2

# Tests compute on one thread each. worksteal leaves the tests of a file together, which share fixtures.
test: export OMP_NUM_THREADS = 1
test: .venv/tested .venv/quantization/installed
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

# The same with the oldest supported versions, in an environment of their own. torch is installed first,
# so that its build is the one that this machine's index has for exactly that version.
test-oldest: export OMP_NUM_THREADS = 1
test-oldest: .venv-oldest/tested .venv-oldest/quantization/installed
	.venv-oldest/bin/python -m pytest -n auto --maxprocesses 4 --dist worksteal

.venv-oldest/quantization/installed: .venv-oldest/tested
	@.venv-oldest/bin/python -m pip install --disable-pip-version-check -c constraints-oldest.txt --no-deps \
		--upgrade --target .venv-oldest/quantization torchao bitsandbytes >&2
	@touch $@

.venv-oldest/tested: pyproject.toml constraints-oldest.txt
	@python3.11 -m venv .venv-oldest >&2
	@.venv-oldest/bin/python -m pip install --disable-pip-version-check -c constraints-oldest.txt torch >&2
	@.venv-oldest/bin/python -m pip install --disable-pip-version-check -c constraints-oldest.txt -e ".[dev,ocr]" >&2
	@touch $@

# Where only the tests of quantization look: every process that imports diffusers would import both.
.venv/quantization/installed: .venv/installed
	@$(PIP_INSTALL) --no-deps --upgrade --target .venv/quantization torchao bitsandbytes >&2
	@touch $@

check: .venv/tested
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# One file that runs plans on a machine with a GPU and no network; DEEPGEN_SHARED names the folder of
# reference numbers.
gpu-bundle: .venv/tested
	$(BIN)/python perf/gpu_kit.py pack build/gpu-bundle.zip

gpu-rehearsal: .venv/tested
	$(BIN)/python perf/gpu_kit.py rehearse

.venv/installed: pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or newer found; set PYTHON" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv >&2
	@$(PIP_INSTALL) -e . >&2
	@touch $@

.venv/tested: .venv/installed
	@$(PIP_INSTALL) -e ".[dev]" >&2
	@touch $@
