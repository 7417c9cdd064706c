# Each target sets up its virtual environment in .venv. Needs only make and a Python 3.9 to 3.13.
# Another folder, Python or NumPy series: make VENV=.venv-other PYTHON=python3.10 NUMPY=2 test
VENV ?= .venv
READY := $(VENV)/.ready
# One OpenMP thread for each of the two test processes: more would fight over the cores.
PYTEST := OMP_NUM_THREADS=1 $(VENV)/bin/python -m pytest -q -n 2

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint docs bench bench-quick matrix clean

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

demo: $(READY)  ## train on the built-in sample, evaluate, draw images (minutes)
	$(VENV)/bin/mxnetseg demo

test: $(READY)  ## run the tests but the slow ones
	$(PYTEST) -m "not slow and not gpu" $(ARGS)

test-all: $(READY)  ## run all tests, with new random examples
	HYPOTHESIS_PROFILE=new $(PYTEST) -m "not gpu" $(ARGS)

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
bench: $(READY) $(VENV)-bench/.ready  ## compare the speed with GluonCV, MXNetSeg's way and PyTorch (an hour)
	$(VENV)/bin/$(BENCH).json $(ARGS)

bench-quick: $(READY) $(VENV)-bench/.ready  ## a short form of bench (minutes)
	$(VENV)/bin/$(BENCH)-quick.json --quick $(ARGS)

matrix:  ## install and try the package on each Python 3.9 to 3.13 of this machine (TESTS=tests: all quick tests)
	TESTS="$(TESTS)" sh scripts/matrix.sh

clean:  ## remove the virtual environments and caches
	rm -rf $(VENV) .venv-* build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp file makes a second run instant. The environment is remade when a file that decides on it has changed.
$(READY): requirements.txt requirements-test.txt setup.py pyproject.toml scripts/make_venv.sh $(wildcard wheels/*.py wheels/*/*.py wheels/*/*.toml)
	@PYTHON="$(PYTHON)" NUMPY="$(NUMPY)" sh scripts/make_venv.sh $(VENV)
	@touch $@

# PyTorch has an environment of its own. Where it cannot be installed, the benchmark leaves it out.
$(VENV)-bench/.ready: benchmarks/requirements.txt | $(READY)
	$(VENV)/bin/python -m venv --clear $(VENV)-bench
	$(VENV)-bench/bin/python -m pip install --quiet --disable-pip-version-check -r $< && touch $@ || true
