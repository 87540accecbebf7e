# The worker in a small image: not root, no build tools, nothing installed that a lock file has not hashed, and fit for a
# read-only root file system. Only the state directory (and /tmp) is written to. It runs neither a shell nor a package
# manager (docs/security.md, "The image"):
#
#   docker build -t mfa-worker .
#   docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges -v mfa-state:/var/lib/mfa-worker \
#     -v "$PWD/mfa-worker.toml:/etc/mfa-worker.toml:ro" -e MFA_WORKER_CONFIG=/etc/mfa-worker.toml mfa-worker run
#
# To pin the base image by digest, append to its tag the one that `docker buildx imagetools inspect python:3.13-slim` prints:
# python:3.13-slim@sha256:...
#
# What the labels say of the build: --build-arg REVISION="$(git rev-parse HEAD)" --build-arg CREATED=2026-01-31T12:00:00Z
# and SOURCE, the address of the code. What is installed does not depend on them, nor on the time: two builds from one
# commit and base have the same files (config/docker/installed-tree shows it).

FROM python:3.13-slim AS base

FROM base AS build
WORKDIR /src
# The time that every installed file bears, seconds since 1970; hashes of strings, and with them bytecode, are always the same.
ARG SOURCE_DATE_EPOCH=1577836800
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ONLY_BINARY=:all: PYTHONHASHSEED=0
# pip lives in /opt/build and installs into /opt/venv from outside, so that the final image has none.
RUN python -m venv /opt/build && python -m venv --without-pip /opt/venv
COPY requirements.lock requirements-build.lock ./
RUN /opt/build/bin/pip install --require-hashes -r requirements-build.lock \
 && /opt/build/bin/pip --python /opt/venv/bin/python install --no-compile --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY worker worker
# Without isolation the wheel is built by the hashed backend above, not by whatever is newest today. It is installed by its
# name, or the venv would say in which folder it was built.
# The bytecode is never checked against the sources again: nobody can change them, and --help starts sooner. One process
# compiles all of it anew (-f: what an import left has a time in it); then everything gets the modes and the time that do not depend on who built it, and when.
RUN /opt/build/bin/pip wheel --no-build-isolation --no-deps --no-index --wheel-dir dist . \
 && /opt/build/bin/pip --python /opt/venv/bin/python install --no-compile --no-deps --no-index --find-links dist mfa-worker \
 && /opt/venv/bin/python -m compileall -q -f --invalidation-mode unchecked-hash /opt/venv/lib \
 && chmod -R u=rwX,go=rX /opt/venv \
 && find /opt/venv -exec touch --no-dereference --date "@$SOURCE_DATE_EPOCH" {} +

FROM base
ARG SOURCE_DATE_EPOCH=1577836800
# The official image ships the standard library without bytecode, which a read-only root could never add: compiled here, the
# worker starts in a quarter of the time. pip is not needed any more.
# The user is two lines: useradd would also write the day into /etc/shadow, and there is no password.
# Mode 0700, for requests with live credentials wait in the state directory. It is not declared a VOLUME: an anonymous one
# would vanish with `docker run --rm`, and the ledger with it.
RUN PYTHONHASHSEED=0 python -m compileall -q -f -x '/(ensurepip|idlelib|pydoc_data|site-packages|tkinter|turtledemo)/' \
      --invalidation-mode unchecked-hash "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
 && python -m pip uninstall --yes --quiet --root-user-action=ignore pip \
 && echo 'mfa-worker:x:10001:' >> /etc/group \
 && echo 'mfa-worker:x:10001:10001::/var/lib/mfa-worker:/usr/sbin/nologin' >> /etc/passwd \
 && install -d -o 10001 -g 10001 -m 0700 /var/lib/mfa-worker
COPY --from=build /opt/venv /opt/venv
# MFA_WORKER_STATE is where ledger, queue and sealed file are unless the settings give a path, not beside the settings file.
ENV PATH=/opt/venv/bin:$PATH HOME=/var/lib/mfa-worker MFA_WORKER_STATE=/var/lib/mfa-worker PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
# A number, so that Kubernetes can see that it is not root (runAsNonRoot).
USER 10001:10001
WORKDIR /var/lib/mfa-worker
# The exec form: the worker is process 1 and gets SIGTERM itself, with no shell in between.
STOPSIGNAL SIGTERM
ENTRYPOINT ["mfa-worker"]
CMD ["--help"]
# Asks the run's own event loop, with and without metrics.port. Five times in a row, as in config/kubernetes: a run that
# nothing moves ends itself within run.watchdog (5 min), and a machine that is busy for a moment is no reason to end it.
HEALTHCHECK --interval=60s --timeout=30s --start-period=60s --retries=5 CMD ["mfa-worker", "health"]
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG CREATED=unknown
ARG SOURCE=unknown
LABEL org.opencontainers.image.title="mfa-worker" \
      org.opencontainers.image.description="Enrols a whole Amazon Cognito user pool in TOTP multi-factor authentication" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.base.name="docker.io/library/python:3.13-slim" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.created="$CREATED" \
      org.opencontainers.image.source="$SOURCE"
