# Every target sets up all it needs: `make demo` and `make test` work on a fresh machine.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.stamp
PLAIN := .venv/.plain

.PHONY: help demo test check fmt bench torture fuzz docs site dist dist/wheel single deb dist-check lock clean
help:            ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 12

$(PLAIN): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: rota needs Python 3.11 or newer, $(PYTHON) is $$($(PYTHON) --version)"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(STAMP): $(PLAIN)
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

demo: $(PLAIN)   ## an agent, two jobs, their logs and their history, in a temporary folder
	@PATH="$(CURDIR)/$(BIN):$$PATH" sh examples/demo.sh

test: $(STAMP)   ## all tests, WORKERS=2 at a time
	@sh tests/install-system-packages.sh
	$(BIN)/pytest -n $${WORKERS:-2} --dist loadfile

check: $(STAMP)  ## format, lint, types, import contracts, spelling
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell README.md ARCHITECTURE.md CONTRIBUTING.md docs src   # tests misspell on purpose

fmt: $(STAMP)    ## format, and mend what can be mended
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: $(STAMP)  ## the speed table, as ratios to a floor measured in the same run
	$(BIN)/python -m bench

torture: $(STAMP) ## faults by chance, at length: ROUNDS=1 MINUTES=10 AGENTS=3 SEED=
	@sh tests/install-system-packages.sh
	@for round in $$(seq $${ROUNDS:-1}); do echo "round $$round"; \
		$(BIN)/python -m tests.property.simulate --minutes $${SIMULATE:-2} --seed $${SEED:-$$((round * 1000000))} || exit 1; \
		$(BIN)/python -m tests.property.schedules --kills 1000 --seed $${SEED:-$$round} || exit 1; \
		$(BIN)/python -m tests.torture --minutes $${MINUTES:-10} --agents $${AGENTS:-3} $${SEED:+--seed $$SEED} || exit 1; \
		$(BIN)/python -m tests.torture.schedules --kills 50 || exit 1; \
		$(BIN)/pytest -q tests/fault || exit 1; done
	$(BIN)/python -m tests.property.zones_oracle --seed $${SEED:-1}
	$(BIN)/pytest -q tests/torture/recovery.py tests/torture/pods.py

fuzz: $(STAMP)   ## input led by coverage at all that reads outsiders' bytes, and all of REST: MINUTES=5 a target, TARGETS=
	$(BIN)/python -m tests.fuzz --minutes $${MINUTES:-5} $${TARGETS:-}
	$(BIN)/python -m tests.fuzz.rest --seconds $$(( $${MINUTES:-5} * 60 ))

docs: $(STAMP)   ## write what is generated into docs/
	$(BIN)/python docs/generate.py
	$(BIN)/python -m rota.cli.mirror

site: $(STAMP)   ## all pages as HTML in build/site: tutorial, how-to, topics, reference of the program's own tables
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[docs]'
	$(BIN)/python docs/site/build.py build/site

# The same commit makes the same bytes.
dist deb single: export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 1580601600)
RELEASE = $(BIN)/pip install --quiet --disable-pip-version-check --editable '.[release]'

dist: $(STAMP)   ## wheel, sdist, the single file and the Debian package, in dist/
	$(RELEASE)
	rm -rf dist && $(BIN)/python -m build --outdir dist .
	$(BIN)/twine check --strict dist/*
	$(MAKE) single deb

dist/wheel: $(STAMP)
	$(RELEASE)
	ls dist/*.whl >/dev/null 2>&1 || $(BIN)/python -m build --wheel --outdir dist .

single: dist/wheel ## the single file dist/rota, of the wheel in dist/
	$(BIN)/python packaging/single.py dist/*.whl dist/rota

deb: dist/wheel  ## the Debian package, of the wheel in dist/
	$(BIN)/python packaging/deb.py dist/*.whl dist

dist-check: $(STAMP) ## install what is in dist/ and run it, manifests against their schemas; a few minutes
	$(BIN)/pip install --quiet --disable-pip-version-check kubernetes-validate
	$(BIN)/kubernetes-validate --strict packaging/kubernetes/rota.yaml
	sh packaging/check.sh dist

lock: $(STAMP)   ## which versions the single file and the Debian package bring
	$(BIN)/uv pip compile --quiet --upgrade --universal --no-header --no-annotate --generate-hashes --python-version 3.11 \
		--extra chat --extra notify --extra s3 --extra cloud pyproject.toml --output-file packaging/lock.txt

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
