# `make demo` shows the gateway, `make test` proves it, `make help` lists the rest.
# Needs Python >= 3.11; `make test` also wants Java, Maven and Go, and fetches Kafka and Helm with them into .cache.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
KAFKA := .cache/kafka/.fetched
HELM := .cache/bin/helm
HELM_VERSION := v3.18.4

# In CI a missing tool is a failure; at home it is a loud note.
REQUIRE_ALL ?= $(filter-out 0 false,$(CI))
instead = $(if $(REQUIRE_ALL),a failure here,$(1) and some tests are skipped)
PYTEST := $(BIN)/pytest --durations=10
say = @printf '\n\033[1m== %s\033[0m\n' "$(1)"

.PHONY: help demo test check quick integration faults e2e bench soak kafka helm lock clean venv

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: $(READY)  ## watch reminders travel (ARGS=--once: exit by itself)
	@$(BIN)/reminder-gateway demo $(ARGS)

# Cheapest first, so that a mistake shows early. What has servers of its own mostly waits for them: it runs side by side,
# and each shows what it did when it is done. Helm is compiled meanwhile, out of the way.
test: $(READY) $(KAFKA)  ## check, then every test, on real Kafka and real Postgres
	@$(MAKE) --no-print-directory --jobs=3 --output-sync=target IN_ORDER=1 integration faults e2e
	$(call say,everything passed)

check: $(READY)  ## lint, format, types, imports, schemas in step with the code
	$(call say,check: ruff; mypy; import-linter; schemas)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --strict -p gateway -p providers -p schemas
	$(BIN)/lint-imports
	$(BIN)/python -m schemas.generate --check

quick: $(READY) $(if $(IN_ORDER),check)  ## unit and contract tests: no servers, about a minute
	$(call say,unit and contract tests)
	$(PYTEST) --numprocesses=2 tests/unit tests/contract

integration: $(READY) $(KAFKA) $(if $(IN_ORDER),quick)  ## the parts on real Kafka and real Postgres
	$(call say,integration tests)
	nice -n 5 $(PYTEST) tests/integration

faults: $(READY) $(KAFKA) $(if $(IN_ORDER),quick)  ## the whole gateway, killed at its worst moments
	$(call say,fault tests)
	$(PYTEST) tests/faults

e2e: $(READY) $(KAFKA) helm $(if $(IN_ORDER),faults)  ## the demo and the Helm chart, as a user meets them
	$(call say,end to end tests)
	$(PYTEST) tests/e2e

bench: $(READY) $(KAFKA)  ## how fast, against the plain loop and the durable reference
	$(BIN)/python -m tests.bench $(ARGS)

# `scenarios` as the first word tells the long stories instead, one after the other.
soak: $(READY) $(KAFKA)  ## every fault at random, for long (ARGS="--minutes 30 --seed 1"), or long stories (ARGS="scenarios [NAME...]")
	$(BIN)/python -m tests.faults.$(if $(filter scenarios,$(firstword $(ARGS))),$(ARGS),soak $(ARGS))

lock:  ## resolve the dependencies anew (ARGS=--upgrade: to their newest versions)
	$(PYTHON) -m venv --clear .cache/lock
	.cache/lock/bin/pip install --quiet uv
	$(eval compile := .cache/lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-emit-index-url --no-emit-find-links)
	$(compile) $(ARGS) --all-extras pyproject.toml --output-file requirements/dev.lock
	$(compile) --constraint requirements/dev.lock pyproject.toml --output-file requirements/runtime.lock
	$(compile) --constraint requirements/dev.lock --extra otel pyproject.toml --output-file requirements/otel.lock
	echo setuptools | $(compile) --constraint requirements/dev.lock - --output-file requirements/build.lock

clean:  ## remove everything that make made
	rm -rf .venv .cache build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

venv: $(READY)
kafka: $(KAFKA)
helm: $(HELM)

# Hash-checked, and built with the locked setuptools: what is installed is what was locked.
$(READY): requirements/dev.lock requirements/build.lock
	$(call say,installing the locked dependencies into $(VENV))
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; see PYTHON=")'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements/build.lock
	$(BIN)/pip install --quiet --require-hashes --no-build-isolation -r requirements/dev.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(KAFKA): tests/kafka/pom.xml
	@if command -v java >/dev/null && command -v mvn >/dev/null; then \
	  echo "== fetching Apache Kafka with Maven"; rm -rf $(@D); \
	  mvn --batch-mode --quiet -Dstyle.color=never --file $< dependency:copy-dependencies \
	    -DincludeScope=runtime -DoutputDirectory=$(CURDIR)/$(@D) && touch $@; \
	else \
	  echo "!!! Java or Maven is missing: $(call instead,the embedded broker stands in for Kafka)"; \
	  test -z "$(REQUIRE_ALL)"; \
	fi

$(HELM):
	@if command -v go >/dev/null; then \
	  echo "== compiling Helm $(HELM_VERSION)"; \
	  GOBIN=$(CURDIR)/$(@D) nice -n 19 go install helm.sh/helm/v3/cmd/helm@$(HELM_VERSION); \
	else \
	  echo "!!! Go is missing: $(call instead,there is no Helm)"; \
	  test -z "$(REQUIRE_ALL)"; \
	fi
