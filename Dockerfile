# The worker in a small image: not root, no build tools, nothing installed that a lock file has not hashed, and fit for a
# read-only root file system. Only the state directory (and /tmp) is written to:
#
#   docker build -t mfa-worker .
#   docker run --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges -v mfa-state:/var/lib/mfa-worker \
#     -v "$PWD/mfa-worker.toml:/etc/mfa-worker.toml:ro" -e MFA_WORKER_CONFIG=/etc/mfa-worker.toml mfa-worker run
#
# To pin the base image by digest, append to its tag the one that `docker buildx imagetools inspect python:3.13-slim` prints:
# python:3.13-slim@sha256:...

FROM python:3.13-slim AS base

FROM base AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ONLY_BINARY=:all:
# pip lives in /opt/build and installs into /opt/venv from outside, so that the final image has none.
RUN python -m venv /opt/build && python -m venv --without-pip /opt/venv
COPY requirements.lock requirements-build.lock ./
RUN /opt/build/bin/pip install --require-hashes -r requirements-build.lock \
 && /opt/build/bin/pip --python /opt/venv/bin/python install --no-compile --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY worker worker
# Without isolation the wheel is built by the hashed backend above, not by whatever is newest today.
# The bytecode is never checked against the sources again: nobody can change them, and --help starts sooner.
RUN /opt/build/bin/pip wheel --no-build-isolation --no-deps --no-index --wheel-dir dist . \
 && /opt/build/bin/pip --python /opt/venv/bin/python install --no-compile --no-deps --no-index dist/*.whl \
 && /opt/venv/bin/python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/venv/lib

FROM base
# The official image ships the standard library without bytecode, which a read-only root could never add: compiled here, the
# worker starts in a quarter of the time. pip is not needed any more.
# Mode 0700, for requests with live credentials wait in the state directory. It is not declared a VOLUME: an anonymous one
# would vanish with `docker run --rm`, and the ledger with it.
RUN python -m compileall -q -j 0 -x '/(ensurepip|idlelib|pydoc_data|site-packages|tkinter|turtledemo)/' \
      --invalidation-mode unchecked-hash "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
 && python -m pip uninstall --yes --quiet --root-user-action=ignore pip \
 && groupadd --gid 10001 mfa-worker \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/mfa-worker --shell /usr/sbin/nologin mfa-worker \
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
