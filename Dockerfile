# One image for the service, the migration and the operator's commands.  docs/deploying.md says how it is built and what of
# it was checked.  Every step is in exec form: nothing needs a shell, and tests/image replays the very steps.
#
# For a build that repeats to the byte, give BASE with its digest: --build-arg BASE=python:3.11-slim-bookworm@sha256:…
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
# The service's own environment has neither pip nor setuptools: what builds it stays in this stage.
RUN ["python", "-m", "venv", "--without-pip", "/opt/reminder-gateway"]
# The dependencies before the sources: a change of ours does not fetch them again.  With the extra for spans, which whoever
# configures no `tracing` never imports.
COPY requirements/build.lock requirements/otel.lock ./requirements/
# What pip keeps stays in this stage too.
# hadolint ignore=DL3042
RUN ["python", "-m", "pip", "install", "--require-hashes", "--only-binary=:all:", "-r", "requirements/build.lock"]
RUN ["python", "-m", "pip", "--python", "/opt/reminder-gateway/bin/python", "install", "--require-hashes", \
     "--only-binary=:all:", "--no-compile", "-r", "requirements/otel.lock"]
COPY pyproject.toml README.md LICENSE ./
COPY gateway ./gateway
COPY providers ./providers
COPY schemas ./schemas
RUN ["python", "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", "/build/wheels", "."]
RUN ["python", "-m", "pip", "--python", "/opt/reminder-gateway/bin/python", "install", "--no-deps", "--no-index", \
     "--no-compile", "--find-links", "/build/wheels", "reminder-gateway"]
# Nothing can be written later; and no times in what is written now.
RUN ["/opt/reminder-gateway/bin/python", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash", \
     "/opt/reminder-gateway/lib"]

FROM ${BASE}
LABEL org.opencontainers.image.title="reminder-gateway" \
      org.opencontainers.image.licenses="Apache-2.0"
RUN ["python", "-m", "pip", "uninstall", "--yes", "--root-user-action=ignore", "pip", "setuptools", "wheel"]
COPY --from=build /opt/reminder-gateway /opt/reminder-gateway
# There is no user of this number: what asks for one is told here.
ENV PATH=/opt/reminder-gateway/bin:/usr/local/bin:/usr/bin:/bin \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    HOME=/tmp USER=gateway \
    REMINDER_GATEWAY_CONFIG=/etc/reminder-gateway/gateway.yaml
USER 10001:10001
WORKDIR /tmp
EXPOSE 8080 8081
ENTRYPOINT ["reminder-gateway"]
CMD ["run"]
