# One command each: `make demo` turns the bundled photo into out/demo, `make test` runs every check.
# Both make .venv first; nothing here needs a compiler, and nothing needs a network afterwards.

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed
PHOTO ?= examples/photos/chair.png
# CPU wheels of torch unless an NVIDIA card is there; `make TORCH=torch==2.13.0` takes PyPI's own.
TORCH ?= $(shell sed -n 's/^torch==/torch==/p' constraints.txt)
TORCH_CPU := https://download.pytorch.org/whl/cpu
HAS_GPU := $(shell command -v nvidia-smi >/dev/null 2>&1 && echo yes)
PIP := $(BIN)/python -m pip --disable-pip-version-check
WORKERS ?= auto

.PHONY: demo test venv format lint types unit harden docs clean

demo: venv
	$(BIN)/roundview make $(PHOTO) -o out/demo --quality standard
	@echo "Open out/demo/asset.glb in any viewer, or look at out/demo/preview.png."

test: venv lint types unit

venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "roundview needs Python 3.11 or newer: make PYTHON=python3.12" >&2; exit 2; }
# torch first and alone: a resolver that sees it late takes a CUDA build of several GB.
ifeq ($(HAS_GPU)$(filter Darwin,$(shell uname -s)),)
	$(PIP) install -q "$(TORCH)+cpu" 2>/dev/null \
	  || $(PIP) install -q --index-url $(TORCH_CPU) "$(TORCH)" \
	  || $(PIP) install -q "$(TORCH)"
else
	$(PIP) install -q "$(TORCH)"
endif
	$(PIP) install -q -c constraints.txt -e ".[dev]"
# Two checkers come from npm. The tests that need the validator say so when it is not there.
	-command -v npm >/dev/null 2>&1 && test ! -d node_modules/gltf-validator \
	  && npm install --no-save --no-package-lock --silent --prefix . gltf-validator@2.0.0-dev.3.10 \
	  || true
	-$(BIN)/pyright --version >/dev/null 2>&1
	touch $@

lint:
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

# pyright is a node program that its wheel fetches once; a machine that cannot is told, not failed.
types:
	@if $(BIN)/pyright --version >/dev/null 2>&1; then $(BIN)/pyright; \
	else echo "SKIPPED: pyright could not be fetched on this machine (it needs node and npm)"; fi

unit:
	$(BIN)/python -m pytest -q -n $(WORKERS) tests

# The long form of tests/robustness: ten thousand malformed files a kind, two hundred kills.
harden: venv
	PYTHONPATH=tests $(BIN)/python -m robustness.files --count 10000 -o out/harden
	PYTHONPATH=tests $(BIN)/python -m robustness.killing --kills 200 -o out/harden

docs: venv
	$(PIP) install -q -c constraints.txt -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "Open out/site/index.html."

format:
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf out .venv
