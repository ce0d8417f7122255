# `make demo` and `make test` work on a fresh machine: they do all the set-up.
PYTHON ?= python3
BIN := .venv/bin
export OMP_NUM_THREADS ?= 1

PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt
# What tests start for real: a database, a browser, a voice, the checker of alert rules. Without them those tests are skipped.
DEBIAN := postgresql chromium espeak-ng prometheus

.PHONY: demo toy test lint check bench bench-serve clean

# The service alone, no torch: what `make demo` needs.
.venv/served: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) -e '.[media,serve]'
	touch $@

.venv/ready: .venv/served
	$(PIP) torch==2.13.0
	$(PIP) -e '.[dev]'
	touch $@

.venv/debian: .venv/served
	@if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		dpkg -s $(DEBIAN) >/dev/null 2>&1 || { apt-get update -qq && \
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $(DEBIAN) >/dev/null; }; \
	else echo "not root, or not Debian: tests that need $(DEBIAN) are skipped where those are missing"; fi
	touch $@

demo: .venv/served
	$(BIN)/python examples/demo.py

toy: .venv/ready
	PATH="$(CURDIR)/$(BIN):$$PATH" bash examples/toy.sh

# Two processes, each with whole files; models that tests share are then trained twice.
test: .venv/ready .venv/debian
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test

bench: .venv/ready
	$(PIP) -e '.[bench]'
	$(BIN)/python benchmarks/run.py

bench-serve: .venv/ready
	$(PIP) -e '.[bench]'
	$(BIN)/python benchmarks/serve.py

clean:
	rm -rf .venv build dist demo
