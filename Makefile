# The two commands of the README, and their friends. Every target installs what it needs.
SHELL := /bin/bash
VENV := .venv
PY := $(VENV)/bin/python
INVOKE := $(VENV)/bin/invoke
APT_PACKAGES := $(shell sed 's/\#.*//' packages.apt)
# Some tests wait rather than reckon: one worker more than there are cores.
UNIT_TESTS := $(VENV)/bin/pytest -q --numprocesses $(shell expr $$(nproc) + 1) --dist worksteal tests/unit
LAB_TESTS := $(VENV)/bin/pytest --durations 20 -m "not long" tests/lab
# Left by the lab tests where a node's kernel died of an exception that QEMU had made up: what failed is then no verdict.
EMULATOR_PANIC := .lab/emulator-panic
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: lab test test-long check format lock deps clean

lab: deps
	$(INVOKE) build-image
	$(INVOKE) lab.up

deps: $(VENV)/.locked
	@missing=$$(dpkg-query -W -f='$${db:Status-Abbrev} $${Package}\n' $(APT_PACKAGES) 2>&1 | grep -v '^ii ' || true); \
	if [ -n "$$missing" ]; then \
	  $(SUDO) apt-get update && \
	  $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends $(APT_PACKAGES); \
	fi
	@. /etc/os-release; if [ "$$VERSION_CODENAME" = bookworm ] && \
	  dpkg --compare-versions "$$(dpkg-query -W -f='$${Version}' qemu-system-x86)" lt 1:10; then $(SUDO) lab/newer-qemu.sh; fi

$(VENV)/.locked: requirements.lock
	python3 -m venv $(VENV) || { $(SUDO) apt-get update && $(SUDO) apt-get install -y python3-venv && python3 -m venv --clear $(VENV); }
	$(VENV)/bin/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	touch $@

check: deps
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(UNIT_TESTS) -m "not exhaustive"

test: check
	$(UNIT_TESTS) -m exhaustive
	$(VENV)/bin/pytest -q tests/model
	$(VENV)/bin/pytest -q tests/page
	$(VENV)/bin/pytest --durations 20 tests/image
	rm -f $(EMULATOR_PANIC)
	$(LAB_TESTS) || { test -e $(EMULATOR_PANIC) && $(LAB_TESTS) --last-failed; }

# What would make the above too long for CI; each is also played by `invoke bench` or `invoke campaign`, but a guest's whole life.
test-long: deps
	$(VENV)/bin/pytest --durations 20 -m long tests/lab

format: $(VENV)/.locked
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

lock:
	python3 -m venv .cache/pip-tools && .cache/pip-tools/bin/pip install -q pip-tools
	.cache/pip-tools/bin/pip-compile --quiet --all-extras --generate-hashes --strip-extras --no-emit-index-url \
	  --no-emit-find-links --no-emit-trusted-host --output-file requirements.lock pyproject.toml

clean:
	rm -rf .cache .lab out
