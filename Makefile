# make run   set up and run the service on its embedded PostgreSQL and Valkey
# make test  set up and pass every check and test
# make faults  break everything there is to break, in full; one line a promise, and docs/promises.md (ONLY=1,2: these)
# make demo  play the whole story on real faces against a service of its own
# make bench  measure how fast everything is and write it into docs/performance.md (BENCH_QUICK=1: in minutes, prints only)
# make portraits  write public-domain photographs to .artifacts/portraits, for trying the API by hand
# make sbom  write bills of materials of the service's packages and of the face tier's to .artifacts/sbom*.json
# make audit  look for known vulnerabilities of these packages, where the network allows
# make lock  resolve the dependencies anew after pyproject.toml changed
PYTHON ?= python3
BIN := .venv/bin
UV := UV_PYTHON_DOWNLOADS=never VIRTUAL_ENV=.venv $(BIN)/uv pip sync --quiet --require-hashes --build-constraints requirements/build.txt
# the machine's certificates first, for a proxy of the house may sign the traffic; uv's own where it has none
sync = $(UV) --system-certs $(1) requirements/installer.txt || $(UV) $(1) requirements/installer.txt

.PHONY: run test check faults bench demo portraits sbom audit lock

run: .venv/runtime.stamp
	@exec $(BIN)/python -m checkin_service serve

# a file at a time on two processes; faults and load by themselves afterwards
test: check
	$(BIN)/python -m pytest -n 2 --dist loadfile --ignore tests/faults
	$(BIN)/python -m pytest tests/faults

check: .venv/test.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

faults: .venv/test.stamp
	@exec $(BIN)/python -m tests.faults $(if $(ONLY),--only $(ONLY))

bench: .venv/test.stamp
	@exec $(BIN)/python -m tests.bench

demo: .venv/test.stamp
	@exec $(BIN)/python -m tests.demo

portraits: .venv/test.stamp
	@exec $(BIN)/python -m tests.portraits .artifacts/portraits

sbom: .venv/installer.stamp
	@exec $(BIN)/python -m tests.dependencies sbom .artifacts/sbom.json

audit: .venv/installer.stamp
	@exec $(BIN)/python -m tests.dependencies audit

.venv/installer.stamp: requirements/installer.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; name one with: make PYTHON=python3.12 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/installer.txt
	@touch $@

# The test environment holds all of the runtime's, so it counts for both; a sync never goes backwards.
.venv/runtime.stamp: .venv/installer.stamp requirements/runtime.txt requirements/build.txt
	@if [ -e .venv/test.stamp ]; then $(MAKE) .venv/test.stamp; else $(call sync,requirements/runtime.txt); fi
	@touch $@

.venv/test.stamp: .venv/installer.stamp requirements/test.txt requirements/build.txt
	@$(call sync,requirements/test.txt)
	@touch $@ .venv/runtime.stamp

lock: .venv/installer.stamp
	$(BIN)/uv lock --upgrade
	$(BIN)/uv export --quiet --no-emit-project --no-header --no-annotate --no-default-groups --output-file requirements/runtime.txt
	$(BIN)/uv export --quiet --no-emit-project --no-header --no-annotate --no-default-groups --group test --output-file requirements/test.txt
	$(BIN)/uv export --quiet --no-emit-project --no-header --no-annotate --no-default-groups --group face-tier --output-file requirements/face-tier.txt
