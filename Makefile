# make run    a working server on http://127.0.0.1:8042 (etc/orthanc.json)
# make test   everything that must hold, with all set-up
# make bench  orthanctw and the real Orthanc on the same work

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test lint bench clean debian

all: test

# Made anew when what is to be installed changes.
$(VENV)/.installed: pyproject.toml setup.cfg
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip "setuptools>=68"
	$(BIN)/python -m pip install --quiet --editable ".[dev]" --config-settings editable_mode=compat
	touch $@

run: $(VENV)/.installed
	$(BIN)/twistd -n --pidfile= orthanc -c etc/orthanc.json

debian:
	scripts/install-debian-packages

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/mypy -p orthanctw

test: $(VENV)/.installed debian lint
	scripts/run-tests

bench: $(VENV)/.installed debian
	scripts/install-debian-packages wrk
	$(BIN)/python -m benchmarks.ingest
	$(BIN)/python -m benchmarks.cstore
	$(BIN)/python -m benchmarks.rest
	$(BIN)/python -m benchmarks.dicom
	$(BIN)/python -m benchmarks.jobs
	$(BIN)/python -m benchmarks.takeover
	$(BIN)/python -m benchmarks.pixels
	$(BIN)/python -m benchmarks.archives
	$(BIN)/python -m benchmarks.scripts

clean:
	rm -rf $(VENV) build *.egg-info _trial_temp*
