# `make demo`: see it work. `make test`: prove that it does. Both set up all they need in .venv and can be repeated.
# What needs root (BCC from the package manager, tracefs) is done when root runs it, and said otherwise.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help setup demo test crash bench lint docs sample clean

help:
	@echo 'make demo     record a small workload live (root) or take the sample capture; three questions and their answers'
	@echo 'make test     set up, then static checks and all tests'
	@echo 'make test-vm  the same where kprobes work: stock kernels under QEMU (root; ten minutes, more the first time)'
	@echo 'make test-lowest  with the oldest versions of libraries that pyproject.toml allows (two minutes)'
	@echo 'make crash    kill recordings at many moments, damage captures in many places (root; some minutes)'
	@echo 'make bench    measure the recorder beside its peers (root)'
	@echo 'make lint     ruff and mypy'
	@echo 'make docs     write the generated pages of docs/ again'
	@echo 'make sample   record examples/sample.parquet again (root)'
	@echo 'make soundness  1,000 random losses in the sample capture: what the answers say of them is checked'
	@echo 'make clean    remove what make has made'

setup: $(READY) system

$(READY): pyproject.toml
	@python=; for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	  if $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$name; break; fi; done; \
	if [ -z "$$python" ]; then echo 'tracectl: Python 3.11 or newer is needed (Debian, Ubuntu: apt-get install python3 python3-venv)' >&2; exit 1; fi; \
	if ! $$python -m venv $(VENV) >/dev/null 2>&1; then rm -rf $(VENV); \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y python3-venv >/dev/null; fi; \
	  $$python -m venv $(VENV) >/dev/null || { rm -rf $(VENV); \
	    echo 'tracectl: this Python cannot make a virtual environment (Debian, Ubuntu: apt-get install python3-venv)' >&2; exit 1; }; fi
	@echo 'tracectl: installing into $(VENV)'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@

# Never fails: without BCC or tracefs everything works but live recording, and `tracectl doctor` says what is missing.
.PHONY: system
system: $(READY)
	@if ! $(BIN)/python -c 'from tracectl.recorder.bpf import load_bcc; load_bcc()' 2>/dev/null; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo 'tracectl: installing BCC (python3-bpfcc)'; \
	    { apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y python3-bpfcc >/dev/null; } \
	      || echo 'tracectl: BCC could not be installed: no live recording'; \
	  else echo 'tracectl: BCC is missing: no live recording (as root: apt-get install python3-bpfcc)'; fi; fi
	@if [ "$$(id -u)" = 0 ] && [ ! -d /sys/kernel/tracing/events ] && [ ! -d /sys/kernel/debug/tracing/events ]; then \
	  if mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null; then echo 'tracectl: mounted tracefs on /sys/kernel/tracing'; \
	  else echo 'tracectl: tracefs could not be mounted: no live recording'; fi; fi

demo: setup
	@$(BIN)/python examples/demo.py

lint: $(READY)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

test: setup lint
	@# The kernel tests share the machine with whatever else runs on it: what failed gets a second recording, no third.
	@$(BIN)/python -m pytest
	@$(BIN)/python -m pytest tests/kernel \
	  || { echo 'tracectl: once more, what failed'; $(BIN)/python -m pytest --last-failed tests/kernel; }
	@echo 'tracectl: all tests passed'

# With the oldest versions that pyproject.toml allows: files (duckdb, pyarrow, numpy), language (lark), terminal (click,
# rich). They have no wheels for Python after 3.12; where there is only such a one, nothing older can be installed either.
LOWEST := .venv-lowest
LOWEST_TESTS := tests/unit/test_store_parquet.py tests/unit/test_store_database.py tests/unit/test_store_writer.py \
  tests/unit/test_relations.py tests/unit/test_query_plan.py tests/unit/test_api.py tests/unit/test_cli_render.py \
  tests/unit/test_cli_help.py tests/unit/test_recorder_decode.py tests/golden/test_questions.py \
  tests/golden/test_scheduling.py tests/golden/test_wakers.py

.PHONY: test-lowest
test-lowest: $(READY)
	@if ! $(BIN)/python -c 'import sys; sys.exit(sys.version_info >= (3, 13))'; then \
	  echo 'tracectl: the oldest versions need Python 3.11 or 3.12: not tested'; exit 0; fi; \
	$(BIN)/python -m venv $(LOWEST) && $(LOWEST)/bin/python -m pip install --quiet --disable-pip-version-check \
	  $$($(BIN)/python .ci/lowest.py) --editable '.[test]' && \
	$(LOWEST)/bin/python -m pytest -p no:cacheprovider $(LOWEST_TESTS) && \
	echo 'tracectl: all tests with the oldest versions passed'

# Boots Debian 12 and 13 with their own kernels and BCC. Images are built once, in build/vm.
.PHONY: test-vm
test-vm: setup
	@# Emulated, the kernel's clock depends on what else runs here: what failed gets a second boot, no third.
	@$(BIN)/python -m pytest tests/vm --timeout 2400 \
	  || { echo 'tracectl: once more, what failed'; $(BIN)/python -m pytest --last-failed tests/vm --timeout 2400; }
	@echo 'tracectl: all tests in virtual machines passed'

# Kills recordings at 50 moments, cuts and flips a capture 10,000 times.
crash: setup
	@TRACECTL_REQUIRE_KERNEL=1 TRACECTL_CRASH_ROUNDS=50 TRACECTL_FLIPS=10000 \
	  $(BIN)/python -m pytest tests/kernel/test_crash.py tests/unit/test_damaged_capture.py --timeout 1800
	@echo 'tracectl: survived'

# The recorder beside perf, bpftrace, tracefs and a BCC callback (root; ten minutes): docs/performance.md.
bench: setup
	@PYTHONPATH=. $(BIN)/python tests/bench/recorder_bench.py

docs: $(READY)
	@$(BIN)/python docs/generate.py

sample: setup
	@$(BIN)/python examples/make_sample.py

# CAPTURE=… takes another capture.
.PHONY: soundness
soundness: $(READY)
	@$(BIN)/python tests/property/real.py $(or $(CAPTURE),examples/sample.parquet)

clean:
	rm -rf $(VENV) $(LOWEST) build dist tracectl.egg-info demo.parquet demo.parquet.recording
