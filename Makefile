# Every target needs git, make and Python 3.11 or later with venv; the rest is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TENSORFLOW := 2.21
# by a path, not by setuptools' finder, which costs each start of a Python 25 ms
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat
# what `make test-matrix` runs on, each in an environment of its own
MATRIX := 2.18 2.21

# a shell may ask for none: each `slurm-tf` of a test would compile all of it again
unexport PYTHONDONTWRITEBYTECODE
# for two cores: half of the tests wait for Slurm meanwhile
WORKERS := 5

.PHONY: demo test tests test-long test-faults test-matrix matrix quick lint bench bench-allreduce bench-overhead \
	bench-containers bench-checkpoint bench-goodput bench-serve docs horovod sandbox sandbox-shell sandbox-down clean

demo: $(VENV)/.examples ## train on this machine; NAME=wide-and-deep-1 goes on with that run
	$(BIN)/slurm-tf run jobs/wide_and_deep.toml $(if $(NAME),--name $(NAME))

test: $(VENV)/.test $(VENV)/.examples $(VENV)/.tf_keras $(VENV)/.horovod ## style, types and all tests but the long ones, 20 minutes
	@$(MAKE) --no-print-directory --jobs=2 lint tests

tests: $(VENV)/.test $(VENV)/.examples $(VENV)/.tf_keras $(VENV)/.horovod
	@# on a clean clone: else each worker rewrites the assertions of all files
	@ls tests/__pycache__/*-pytest-* > /dev/null 2>&1 || $(BIN)/pytest --collect-only --quiet > /dev/null
	$(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder -m "not mpi and not long and not faults" $(ARGS)

test-long: $(VENV)/.test $(VENV)/.examples $(VENV)/.tf_keras $(VENV)/.horovod $(VENV)/.docs ## all tests but the faults, an hour
	$(BIN)/pytest -m "not faults" $(ARGS)

test-faults: $(VENV)/.test $(VENV)/.examples ## every fault of docs/faults.md on a real Slurm, as root; an hour
	$(BIN)/pytest -n 2 --dist loadfile $(ARGS) tests/faults

test-matrix: $(MATRIX:%=test-matrix-%) ## the tests of marker matrix on each TensorFlow of MATRIX

test-matrix-%: # one of them
	$(MAKE) matrix VENV=.venv-tf$* TENSORFLOW=$*

matrix: $(VENV)/.test $(VENV)/.examples $(VENV)/.tf_keras
	$(BIN)/slurm-tf plugin horovod
	$(BIN)/pytest -m matrix $(ARGS)

quick: $(VENV)/.test ## a minute: no TensorFlow, no Slurm
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pytest -n auto -m "not tensorflow and not slurm and not slow and not long" $(ARGS)

lint: $(VENV)/.test $(VENV)/.examples ## style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: $(VENV)/.examples $(VENV)/.bench ## the measurements of docs/benchmarks.md; those of Slurm as root
	$(BIN)/python benchmarks/launch.py
	$(BIN)/python benchmarks/submit.py
	$(BIN)/python benchmarks/staging.py
	$(BIN)/python benchmarks/usage.py
	$(BIN)/python benchmarks/page.py
	$(BIN)/python benchmarks/serialize.py
	$(BIN)/python benchmarks/prepare.py
	$(BIN)/python benchmarks/predict.py
	$(BIN)/python benchmarks/reading.py
	$(BIN)/python benchmarks/data_service.py

bench-allreduce: $(VENV)/.examples $(VENV)/.bench $(VENV)/.horovod ## half an hour; ARGS="--rounds 3 --rounds-of-four 0"
	$(BIN)/python benchmarks/allreduce.py $(ARGS)

bench-overhead: $(VENV)/.examples ## half an hour, so not part of bench; ARGS="--pairs 3 --seconds 60"
	$(BIN)/python benchmarks/overhead.py $(ARGS)

bench-containers: $(VENV)/.examples ## ten minutes, as root; makes the image of the tests; ARGS="--pairs 3 --seconds 60"
	$(BIN)/python benchmarks/containers.py $(ARGS)

bench-checkpoint: $(VENV)/.examples ## minutes; ARGS="--rounds 3 --folder /shared" for the storage that counts
	$(BIN)/python benchmarks/checkpoint.py $(ARGS)

bench-goodput: $(VENV)/.examples ## what preemptions leave of the allocated time; as root with ten real ones
	$(BIN)/python benchmarks/checkpoint.py --costs $(VENV)/costs.json
	$(BIN)/python benchmarks/goodput.py --costs $(VENV)/costs.json $(ARGS)

bench-serve: $(VENV)/.examples $(VENV)/.bench ## five minutes; needs h2load (Debian: nghttp2-client); ARGS="--peers PYTHON"
	$(BIN)/python benchmarks/serve.py $(ARGS)

docs: $(VENV)/.docs ## the documentation as a site, in site/
	$(BIN)/python website/build.py

horovod: $(VENV)/.examples ## Horovod for the TensorFlow in .venv, built once; MPI=1: with MPI beside Gloo
	@rm -f $(VENV)/.horovod
	$(BIN)/slurm-tf plugin horovod $(if $(MPI),--mpi)

sandbox: $(VENV)/.examples ## a Slurm cluster on this machine, as root; ARGS="--nodes 8 --gpus t4:2"
	@$(BIN)/python -m tests.sandbox up $(ARGS)

sandbox-shell: ## a user's shell on its login node
	@$(BIN)/python -m tests.sandbox exec

sandbox-down: ## end it and remove all of it
	@$(BIN)/python -m tests.sandbox down

clean: ## remove what these targets made, except runs/
	rm -rf $(VENV) $(MATRIX:%=.venv-tf%) build dist site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "found $$($(PYTHON) --version); needed Python 3.11 or later: make PYTHON=python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.test: $(VENV)/.python setup.cfg pyproject.toml
	$(PIP) --editable '.[test]'
	@touch $@

$(VENV)/.examples: $(VENV)/.python setup.cfg pyproject.toml
	@echo "TensorFlow and its packages go into $(VENV): some minutes, 1.5 GB"
	$(PIP) --editable '.[examples]' 'tensorflow-cpu==$(TENSORFLOW).*'
	@touch $@

# alone: what it depends on is the package `tensorflow`, whose files are those of tensorflow-cpu
$(VENV)/.tf_keras: $(VENV)/.examples
	$(PIP) --no-deps 'tf_keras==$(TENSORFLOW).*'
	@touch $@

$(VENV)/.docs: $(VENV)/.python setup.cfg pyproject.toml
	$(PIP) --editable '.[docs]'
	@touch $@

$(VENV)/.bench: $(VENV)/.python setup.cfg pyproject.toml
	$(PIP) --editable '.[bench]'
	@touch $@

# without a compiler its tests are skipped, or fail on CI: they say why
$(VENV)/.horovod: $(VENV)/.examples slurm_tf/submit/horovod_wheel.py
	@$(BIN)/slurm-tf plugin horovod $(if $(shell command -v mpicxx),--mpi) && touch $@ || [ "$$CI" != true ]
