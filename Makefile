# Everything runs in .venv, which is made on the first call and renewed when the requirements change.
#
#   make validate                      quick validation run, a few minutes on two cores
#   make validate PRESET=full OUT=dir  the long one, anywhere
#   make experiments                   IC-Q against the oracle on every environment
#   make validate JAX=cuda13           with the CUDA 13 build of jax (cuda12 and tpu exist too)

PRESET ?= quick
OUT ?= results/$(PRESET)
EXPERIMENTS := $(if $(filter file,$(origin OUT)),results,$(OUT))/experiments
JAX ?= cpu
# Resumes an interrupted run; starts over if the code has changed, except with PRESET=full, which may have taken hours.
AGAIN := $(if $(filter full,$(PRESET)),--resume,--resume --overwrite)
PYTEST_ARGS ?=
BENCH_ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed-$(JAX)
EXTRAS := dev,$(if $(filter cpu,$(JAX)),numba,$(JAX))

# One process per core, four at most: each loads jax and compiles for itself. A file stays in one process, so
# that its tests share what is compiled; BLAS keeps to one thread, since the processes fill the cores already.
# Bytecode is written, whatever the shell says: rewriting the asserts of all files takes longer than many of them run.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest
# Compiling is most of the work of the suite, and programs of tests run for moments: optimised less and by plainer
# emitters (where jaxlib has both) they compile in a quarter of the time. Nor do they keep lines of source, which are
# looked up for every operation. The whole suite, test-slow, compiles as users do.
QUICKLY := XLA_FLAGS="--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true \
  --xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters --xla_cpu_parallel_codegen_split_count=1 $$XLA_FLAGS" \
  JAX_TRACEBACK_IN_LOCATIONS_LIMIT=0
PARALLEL := -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.DELETE_ON_ERROR:
.PHONY: help install validate experiments test test-slow coverage lint bench bench-device docs clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1	\2/' | expand -t 20

install: $(STAMP)  ## make .venv with everything in it (JAX=cpu, cuda13, cuda12 or tpu)

# A name on the PATH proves little (a version manager may put one there that only prints an error), so each
# candidate has to run and to have the modules that making an environment takes.
$(STAMP): pyproject.toml constraints.txt
	@case "$(JAX)" in cpu|cuda13|cuda12|tpu) ;; *) echo "JAX=$(JAX): expected cpu, cuda13, cuda12 or tpu" >&2; exit 2;; esac
	@found=; if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
	  for python in python3.13 python3.12 python3.11 python3; do \
	    if $$python -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; \
	    then found=$$python; break; fi; \
	  done; \
	  if test -z "$$found"; then \
	    echo "No Python 3.11 or newer with venv and ensurepip among python3.13, python3.12, python3.11, python3." >&2; \
	    exit 1; \
	  fi; \
	  echo "Making $(VENV) with $$($$found --version)" >&2; \
	  $$found -m venv --clear $(VENV); \
	fi
	@echo "Installing icsmdp_jax and its dependencies (JAX=$(JAX)) into $(VENV)" >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[$(EXTRAS)]" -c constraints.txt
	@touch $@

validate: $(STAMP)  ## measure every term of the bound against theory; prints where report.html lies
	@$(BIN)/icsmdp validate --preset $(PRESET) --out $(OUT) $(AGAIN)

experiments: $(STAMP)  ## IC-Q against the oracle on every environment; prints where report.html lies
	@$(BIN)/icsmdp experiment all --preset $(PRESET) --out $(EXPERIMENTS) $(filter-out --resume,$(AGAIN))

test: $(STAMP)  ## the test suite without what is marked slow
	$(QUICKLY) $(PYTEST) $(PARALLEL) $(PYTEST_ARGS)

test-slow: $(STAMP)  ## the whole test suite
	$(PYTEST) $(PARALLEL) -m "slow or not slow" $(PYTEST_ARGS)

coverage: $(STAMP)  ## the test suite, and the share of lines that it runs
	$(QUICKLY) $(PYTEST) $(PARALLEL) --cov --cov-report=term $(PYTEST_ARGS)

lint: $(STAMP)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(STAMP)  ## measure speed; see docs/performance.md
	$(BIN)/python -m benchmarks.run $(BENCH_ARGS)

bench-device: $(STAMP)  ## the same on an accelerator, beside its CPU; eight minutes
	$(BIN)/python -m benchmarks.device $(BENCH_ARGS)

docs: $(VENV)/.installed-docs  ## build the documentation site; prints where its first page is
	@$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo $(CURDIR)/docs/_build/html/index.html

$(VENV)/.installed-docs: $(STAMP)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[docs]" -c constraints.txt
	@touch $@

clean:  ## remove caches and build products; .venv and results stay
	rm -rf build dist *.egg-info docs/_build docs/generated .cache/jax-tests .cache/numba-tests
	rm -rf .pytest_cache .hypothesis .ruff_cache .mypy_cache
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +
