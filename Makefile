# latens. `make help` lists the targets.
#
# PYTHON       an interpreter, 3.11 or newer          make demo PYTHON=python3.12
# TORCH_INDEX  the index that torch comes from        make demo TORCH_INDEX=https://...
# TEST_ARGS    more arguments for pytest              make test TEST_ARGS="-k laws -x"
# BENCH_ARGS   arguments for bench/speed.py           make bench BENCH_ARGS="--quick --case mlp"
# MINUTES      how long make fuzz takes               make fuzz MINUTES=60

new_enough = import sys; sys.exit(sys.version_info < (3, 11))
find_python = for p in python3 python3.14 python3.13 python3.12 python3.11 python; do \
	$$p -c '$(new_enough)' 2>/dev/null && { echo $$p; exit; }; done; echo python3
PYTHON ?= $(shell $(find_python))
TORCH_INDEX ?=
TEST_ARGS ?=
BENCH_ARGS ?=
MINUTES ?= 60
TORCH ?= $(patsubst torch==%,%,$(shell grep '^torch==' requirements.lock))

pip_options := --quiet --no-input --disable-pip-version-check
pip := .venv/bin/python -m pip install $(pip_options)
log := >>.venv/install.log 2>&1 || { tail -n 20 .venv/install.log; \
	echo "make: the installation failed, for the reason above (.venv/install.log has all of it)."; exit 1; } >&2
bench_pip := bench/.venv/bin/python -m pip install $(pip_options)
bench_log := >>bench/.venv/install.log 2>&1 || { tail -n 20 bench/.venv/install.log; \
	echo "make: the installation failed, for the reason above (bench/.venv/install.log has all of it)."; exit 1; } >&2

unexport PYTHONHOME PYTHONPATH PYTHONDONTWRITEBYTECODE
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test lint types docs web bench fuzz lock clean

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1	\2/p' Makefile

demo: .venv/.installed  ## fit, evaluate and compare on embedded data, and write a report
	@.venv/bin/latens demo

test: .venv/.installed  ## every test (those that need Chromium skip where there is none)
	@OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE .venv/bin/pytest -q -n 2 --dist worksteal --durations=10 $(TEST_ARGS)

lint: .venv/.installed  ## the linter
	@.venv/bin/ruff check .

types: .venv/.installed  ## the type checker
	@.venv/bin/mypy

docs: .venv/.installed  ## the documentation site, docs/_build/index.html: its examples run, its links are checked
	@rm -rf docs/_build
	@OMP_NUM_THREADS=1 MPLBACKEND=agg .venv/bin/sphinx-build --quiet --fail-on-warning --jobs 2 docs docs/_build
	@echo "wrote docs/_build/index.html"

web:  ## the front end of `latens explore`, built from web/ into latens/report/explore/assets (needs node and npm)
	@cd web && npm ci --no-audit --no-fund --silent && npm run --silent check && npm run --silent build
	@echo "wrote latens/report/explore/assets"

bench: bench/.venv/.installed  ## speed compared with other libraries (hours; see bench/README.md)
	@bench/.venv/bin/python bench/speed.py $(BENCH_ARGS)

fuzz: .venv/.installed  ## changed files of every format, for MINUTES=60; what breaks latens is kept in fuzz-finds
	@OMP_NUM_THREADS=1 PYTHONPATH=. .venv/bin/python -m bench.fuzz --minutes $(MINUTES) --out fuzz-finds

# The peers' environment, its stamp written last: a set-up that was killed starts again, and so does one that was moved.
bench/.venv/.installed: bench/requirements-speed.txt pyproject.toml
	@$(PYTHON) -c '$(new_enough)' 2>/dev/null || { echo "make: latens needs Python 3.11 or newer, which" \
		"'$(PYTHON)' is not; name one, for example: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@rm -rf bench/.venv
	@echo "creating bench/.venv with the peers (once)"
	@$(PYTHON) -m venv bench/.venv
ifneq ($(strip $(TORCH_INDEX)),)
	@$(bench_pip) --index-url '$(strip $(TORCH_INDEX))' torch==$(TORCH) $(bench_log)
endif
	@$(bench_pip) --only-binary :all: --no-binary docrep --requirement bench/requirements-speed.txt $(bench_log)
	@$(bench_pip) --only-binary :all: --no-deps pythae==0.1.2 $(bench_log)
	@$(bench_pip) --no-deps --no-build-isolation --editable . $(bench_log)
	@printf '%s\n' '$(CURDIR)' >$@

ifneq ($(wildcard bench/.venv/.installed),)
ifneq ($(shell bench/.venv/bin/python -c '' 2>/dev/null && cat bench/.venv/.installed),$(CURDIR))
.PHONY: bench/.venv/.installed
endif
endif

# Two stamps, each written last: a set-up that was killed starts again. A new lock rebuilds .venv from nothing;
# a new pyproject.toml only installs latens again.
.venv/.installed: .venv/.packages pyproject.toml
	@echo "installing latens"
	@$(pip) --no-deps --no-build-isolation --editable . $(log)
	@touch $@

.venv/.packages: requirements.lock
	@$(PYTHON) -c '$(new_enough)' 2>/dev/null || { echo "make: latens needs Python 3.11 or newer, which" \
		"'$(PYTHON)' is not; name one, for example: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "make: '$(PYTHON)' cannot create virtual" \
		"environments; install its venv package (Debian, Ubuntu: apt-get install python3-venv)." >&2; exit 1; }
	@rm -rf .venv
	@echo "creating .venv ($$($(PYTHON) --version))"
	@$(PYTHON) -m venv .venv
ifneq ($(strip $(TORCH_INDEX)),)
	@echo "installing torch $(TORCH) from $(TORCH_INDEX)"
	@$(pip) --index-url '$(strip $(TORCH_INDEX))' torch==$(TORCH) $(log)
endif
	@echo "installing the packages of requirements.lock (once; torch is large)"
	@$(pip) --only-binary :all: --requirement requirements.lock $(log)
	@printf '%s\n' '$(CURDIR)' >$@

# A .venv that was moved here, or whose interpreter is gone, does not count.
ifneq ($(wildcard .venv/.packages),)
ifneq ($(shell .venv/bin/python -c '' 2>/dev/null && cat .venv/.packages),$(CURDIR))
.PHONY: .venv/.packages
endif
endif

# torch first, so that the rest fits it. The comments that head the lock are kept; pip, and the CUDA packages that
# some builds of torch bring, stay out of it.
lock:  ## write requirements.lock anew, from pyproject.toml and the newest releases
	@set -e; env=$$(mktemp -d); trap 'rm -rf "$$env"' EXIT; trap 'exit 130' INT TERM; \
	echo "resolving in a new environment"; \
	$(PYTHON) -m venv "$$env"; \
	in="$$env/bin/python -m pip"; \
	$$in install $(pip_options) $(if $(strip $(TORCH_INDEX)),--index-url '$(strip $(TORCH_INDEX))') torch==$(TORCH); \
	$$in install $(pip_options) --only-binary :all: torch==$(TORCH) '.[dev]'; \
	{ sed -n '/^#/!q;p' requirements.lock; \
	  $$in freeze --all --exclude latens --exclude pip --exclude wheel | sed 's/+[a-z0-9.]*$$//' \
	  | grep -Eiv '^(nvidia|cuda|triton)' | LC_ALL=C sort -f; } >"$$env/lock"; \
	cp "$$env/lock" requirements.lock.new; mv requirements.lock.new requirements.lock; \
	echo "wrote requirements.lock: $$(grep -c == requirements.lock) packages"

clean:  ## remove .venv, caches, builds and the demo's run
	@rm -rf .venv bench/.venv build dist docs/_build demo-run .pytest_cache .mypy_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
