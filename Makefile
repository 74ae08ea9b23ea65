# `make demo` and `make test` do everything on a fresh machine (Python 3.11+, a package index).
# `make demo DEMO="--source hub"` takes the teacher from the model hub.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt
STAMP := $(VENV)/.installed
RAY := $(VENV)/.ray
PEERS := $(VENV)/peers

.PHONY: install demo test check format clean

install: $(STAMP)

# Built by the setuptools that is pinned, not by whatever is newest today.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Potstill needs Python 3.11 or newer; found $$($(PYTHON) --version). Try: make PYTHON=python3.12 install"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) setuptools torch==2.13.0
	$(PIP) --no-build-isolation --editable '.[train,parquet,dev]'
	@touch $@

demo: install
	$(BIN)/potstill demo $(DEMO)

# Ray has no wheels for every Python: where it cannot be installed, its tests are skipped. 20 s and 330 MB, which the demo does without.
$(RAY): $(STAMP)
	-$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[ray]'
	@touch $@

# What losses are held against. Apart from all else, as transformers imports `datasets` wherever it finds it, at a second and 70 MB a process;
# and without all that they ask for: Liger's losses need no triton on a CPU. 7 s and 27 MB; where they cannot be installed, they are skipped.
$(PEERS): $(STAMP)
	-$(PIP) --no-deps --target $@ --upgrade trl liger-kernel datasets dill multiprocess xxhash
	@touch $@

test: install $(RAY) $(PEERS)
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile

check: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build src/*.egg-info .mypy_cache .ruff_cache .pytest_cache
