#!/usr/bin/env bash
# mfa-worker in a container, locked down, with the worker's own exit code:
#
#   config/docker/run.sh check
#   config/docker/run.sh push - < requests.jsonl
#   config/docker/run.sh run                     # Ctrl-C drains; again after 4 or 75
#   config/docker/run.sh status
#
# From the environment:
#   IMAGE       the image; default mfa-worker, as `docker build -t mfa-worker .` names it
#   SETTINGS    the settings file; default mfa-worker.toml here. The container's user must be able to read it
#   STATE       the volume of queue, ledger and sealed file where they are embedded; default mfa-state
#   METRICS     a port of this machine on which `run` shows its metrics to this machine alone, such as 9464; default: none
#   ENV_FILE    a file of variables (AWS_…, MFA_WORKER_…), one a line; not needed where the host has a role
#
# Why each flag is there:
#   --read-only, --tmpfs       nothing can be written but the state, and what is in /tmp is gone with the container
#   --user                     not root; the volume is made for 10001, as the image has it
#   --cap-drop, --security-opt no capability, and no way to get one
#   --memory, --memory-swap    the same number: nothing of it, and so no credential, is ever swapped out
#   --ulimit core=0            and none is in a core dump
#   --log-driver none          docker keeps no copy of what the worker prints; redirect standard error to keep the log
#   --stop-timeout             run.grace (20 s), 10 s in which writes finish, 5 s to close the queue, and reserve
#   --interactive              requests by standard input. No --tty: it would mix results with the log
# Docker's own exit codes are 125 (docker itself), 126 and 127 (the command); all others are the worker's.
set -euo pipefail

image=${IMAGE:-mfa-worker}
settings=${SETTINGS:-mfa-worker.toml}
if [[ ! -f $settings ]]; then
  printf 'run.sh: there is no settings file %s; name one with SETTINGS\n' "$settings" >&2
  exit 2
fi
settings=$(realpath -- "$settings")

environment=(--env MFA_WORKER_CONFIG=/etc/mfa-worker.toml)
if [[ -n ${ENV_FILE:-} ]]; then
  environment+=(--env-file "$ENV_FILE")
fi

health=()
if [[ ${1:-} != run && ${1:-} != rehearse ]]; then
  health=(--no-healthcheck)     # it asks for a run, and this is none
fi

listening=()
if [[ -n ${METRICS:-} && ${1:-} == run ]]; then
  # Inside, it has to listen to more than the container's own loopback.
  environment+=(--env "MFA_WORKER_METRICS__PORT=$METRICS" --env MFA_WORKER_METRICS__HOST=0.0.0.0)
  listening=(--publish "127.0.0.1:$METRICS:$METRICS")
fi

exec docker run --rm --interactive \
  --label mfa-worker \
  --read-only --tmpfs /tmp:rw,noexec,nosuid,nodev,size=64m \
  --user 10001:10001 \
  --cap-drop ALL --security-opt no-new-privileges \
  --memory 256m --memory-swap 256m --pids-limit 128 --ulimit core=0 \
  --log-driver none \
  --stop-timeout 60 \
  --mount "type=volume,source=${STATE:-mfa-state},target=/var/lib/mfa-worker" \
  --mount "type=bind,source=$settings,target=/etc/mfa-worker.toml,readonly" \
  ${health[@]+"${health[@]}"} \
  ${listening[@]+"${listening[@]}"} \
  "${environment[@]}" \
  "$image" "$@"
