# From a bare checkout: `make run`, `make test`. Python 3.11 or 3.12 and a C++ compiler are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: setup run test test-slow coverage check docs serve peers lines lock
setup: $(READY)

# The stamp is younger than the lock and the project file, so a second call installs nothing.
$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(None if (3, 11) <= v < (3, 13) else "Python 3.11 or 3.12 is needed (this is %d.%d): make PYTHON=python3.11" % v)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@# By a path, not by an import hook: type checkers do not see a hook, and a folder above a clone
	@# named modelmill would be imported before it.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e . --config-settings editable_mode=compat
	$(BIN)/python -m components.text.kernels.compile_all
	$(BIN)/python -m components.train.budget.speed_probe
	touch $@

run: setup
	$(BIN)/modelmill run tiny

serve: setup
	$(BIN)/modelmill serve

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check
	$(BIN)/python -m pytest -n auto --dist loadgroup

# Branches of the product's code that `make test` takes, processes that tests start included.
coverage: setup
	$(BIN)/python -m pytest -n auto --dist loadgroup --cov --cov-report=term --cov-report=html:build/coverage

test-slow: setup
	$(BIN)/python -m pytest -m slow

# What the benchmarks compare with, in .peers; `modelmill bench` finds it there.
peers: setup
	$(BIN)/python -m benchmarks.make_peers

lines: setup
	$(BIN)/python -m tests.house_rules --lines

# Offline, into build/site; any warning is an error.
docs: setup
	PYTHONPATH=$(CURDIR) $(BIN)/python docs/site/build_site.py

# Needs `uv` on the PATH. Pins stay where they can: `make lock UPGRADE=--upgrade` takes the newest.
# Resolved for 3.11, which also serves 3.12. What a CUDA build of torch
# brings along is left to pip, which takes it only where that build is installed.
lock:
	cp requirements.lock requirements.new
	UV_FIND_LINKS="$${UV_FIND_LINKS:-$$PIP_FIND_LINKS}" uv pip compile pyproject.toml --extra dev --extra docs --extra documents --extra tracing \
		--python-version 3.11 --no-header --no-annotate --quiet $(UPGRADE) --output-file requirements.new
	{ echo '# Every version, resolved for Python 3.11 (serves 3.12 too). Made by `make lock`; install with pip.'; \
	  grep -Ev '^(nvidia-(cu|nccl|nvjitlink|nvshmem|nvtx)|cuda-|triton)' requirements.new \
	  | sed -E 's/\+cpu$$//'; } > requirements.lock
	rm requirements.new
