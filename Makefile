# Each target sets up what it needs in .venv. Needs only make and a Python 3.9 to 3.12.
# Another folder or Python: make VENV=elsewhere PYTHON=python3.10 test
VENV ?= .venv
READY := $(VENV)/.ready
# One OpenMP thread for each of the two test processes: more would fight over the cores.
PYTEST := OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -q -n 2

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint docs bench bench-quick matrix clean

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

demo: $(READY)  ## train on the built-in sample, evaluate, draw pictures (minutes)
	$(VENV)/bin/mxnetseg demo

test: $(READY)  ## run the tests but the slow ones
	$(PYTEST) -m "not slow and not gpu" $(ARGS)

test-all: $(READY)  ## run all tests
	$(PYTEST) -m "not gpu" $(ARGS)

lint: $(READY)  ## check the style and the types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy

docs: $(VENV)-docs/.ready  ## build the documentation into site/
	$(VENV)-docs/bin/mkdocs build --strict --quiet

$(VENV)-docs/.ready: requirements-docs.txt | $(READY)
	$(VENV)/bin/python -m venv --clear $(VENV)-docs
	$(VENV)-docs/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

BENCH := mxnetseg benchmark --do all --torch $(VENV)-bench/bin/python --json $(VENV)-bench/report
bench: $(READY) $(VENV)-bench/.ready  ## speed beside GluonCV, MXNetSeg's way and PyTorch (an hour)
	$(VENV)/bin/$(BENCH).json $(ARGS)

bench-quick: $(READY) $(VENV)-bench/.ready  ## the same, less of everything (minutes)
	$(VENV)/bin/$(BENCH)-quick.json --quick $(ARGS)

matrix:  ## install and try the package on each Python 3.9 to 3.12 of this machine
	sh scripts/matrix.sh

clean:  ## remove the virtual environments and caches
	rm -rf $(VENV) .venv-* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp makes a second run instant; it is remade when what is installed may have changed.
$(READY): requirements.txt requirements-test.txt setup.py pyproject.toml scripts/make_venv.sh
	@PYTHON="$(PYTHON)" sh scripts/make_venv.sh $(VENV)
	@touch $@

# torchvision wants a NumPy that MXNet cannot have. Where it cannot be installed the benchmark leaves it out.
$(VENV)-bench/.ready: benchmarks/requirements.txt | $(READY)
	$(VENV)/bin/python -m venv --clear $(VENV)-bench
	$(VENV)-bench/bin/python -m pip install --quiet --disable-pip-version-check -r $< && touch $@ || true
