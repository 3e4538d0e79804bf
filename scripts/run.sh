#!/usr/bin/env bash
# Sets up what is missing, then runs the workflow: popper run -f wf.yml -c settings.py
# shellcheck disable=SC2329  # functions are handed to trap
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: scripts/run.sh [--images] [STEP] [--dry-run] [any other option of popper run]

Sets up Docker (install_cuda_docker.sh) and Popper 2.5.0 where they are missing, uses a local image
registry where none answers (scripts/local_registry.sh), builds the images with visible output, runs
  popper run -f wf.yml -c settings.py [STEP] [OPTION ...]
and prints where the report is. STEP: download, preprocess, train, stitch, report.

  --images   first: run image_classification/wf.yml instead (its second step is convert)
  --dry-run  set nothing up and run nothing: print what Popper would do
  --help     this text

Environment (see settings.py): PRESET, RUNS, SEED, SETTINGS, DATA_DIR, MIRROR, SHA256, REQUIRE_GPU,
             NOTE, TAGS, DROP_CACHES.
Exit codes: the failed step's own: 0 ok; 1 failed; 2 usage or configuration; 3 data integrity;
            4 target not reached; 5 not compliant; 6 environment; 130 interrupted.
Example: PRESET=quick scripts/run.sh
TEXT
}

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
readonly HERE
readonly POPPER_REQUIREMENTS=scripts/requirements-popper.txt
readonly REGISTRY_WAIT_S=5
workspace=$HERE
popper_pid=
interrupted=no

# shellcheck source=scripts/environment.sh
source "$HERE/scripts/environment.sh"

main() {
  local argument
  for argument in "$@"; do
    case $argument in -h | --help) usage; exit 0 ;; esac
  done
  if [[ ${1:-} == --images ]]; then workspace=$HERE/image_classification; shift; fi
  resolve_folders
  cd "$HERE"
  refuse_colons
  if [[ " $* " == *" --dry-run "* ]]; then dry_run "$@"; fi
  command -v git >/dev/null || apt_install git
  warn_of_foreign_checkout
  ensure_docker "$@"
  ensure_popper
  probe_engine
  ensure_registry
  "$(environment)/bin/python" scripts/build_images.py
  run_workflow "$@"
}

# Relative folders are the caller's, not this checkout's.
resolve_folders() {
  if [[ -n ${DATA_DIR:-} ]]; then DATA_DIR=$(realpath -m -- "$DATA_DIR"); export DATA_DIR; fi
  if [[ -d ${MIRROR:-} ]]; then MIRROR=$(realpath -- "$MIRROR"); export MIRROR; fi
}

# Docker splits a mount at its colons, and Python's venv the PATH.
refuse_colons() {
  local name
  for name in HERE DATA_DIR; do
    [[ ${!name:-} != *:* ]] ||
      fail 2 "${name/HERE/this checkout}=${!name}: has a colon, which Docker cannot mount;" \
        "choose another folder"
  done
}

# Git refuses a checkout of another user, so its revision stays unknown.
warn_of_foreign_checkout() {
  local said
  said=$(git rev-parse HEAD 2>&1 >/dev/null) && return
  [[ $said == *"dubious ownership"* ]] || return 0
  say "warning: $HERE belongs to another user, so results will not name their code; run:" \
    "git config --global --add safe.directory '$HERE'"
  export TRAINBENCH_FOREIGN=told  # settings.py says the same
}

dry_run() {
  docker version >/dev/null 2>&1 || {
    refuse_named_engine
    fail 6 "Docker does not answer; run ./install_cuda_docker.sh (see its --dry-run)"
  }
  [[ -x $(environment)/bin/popper ]] ||
    fail 6 "Popper is not set up yet; run scripts/run.sh once without --dry-run"
  popper=$HERE/$(environment)/bin/popper
  cd "$workspace"
  exec "$popper" run -f wf.yml -c settings.py "$@"
}

ensure_docker() {
  docker version >/dev/null 2>&1 && return
  refuse_named_engine
  if denied; then use_docker_group "$@"; fi
  say "Docker does not answer: setting it up"
  ./install_cuda_docker.sh || fail 6 "Docker is not ready (install_cuda_docker.sh, above)"
  docker version >/dev/null 2>&1 || use_docker_group "$@"
}

# An engine that DOCKER_HOST or a context names is not ours to set up.
refuse_named_engine() {
  local address
  command -v docker >/dev/null || return 0
  address=$(docker context inspect --format '{{.Endpoints.docker.Host}}' 2>/dev/null) || true
  [[ $address == unix:///var/run/docker.sock ]] ||
    fail 6 "${address:-docker}: no engine answers there, which DOCKER_HOST or a docker context" \
      "names ($(docker version 2>&1 >/dev/null | tail -n 1));" \
      "start it, or run docker context use default"
}

# Whether a daemon runs but this user may not use it.
denied() {
  [[ -S /var/run/docker.sock && ! -w /var/run/docker.sock ]] || return 1
  # A socket may outlive its daemon. Without sudo there is no way to ask, so assume that it runs.
  ! command -v sudo >/dev/null || sudo -n docker version >/dev/null 2>&1
}

# A fresh member of the group docker has its rights from the next log-in on, or through sg.
use_docker_group() {
  if getent group docker | grep -qw "$(id -un)" && [[ -z ${TRAINBENCH_REGROUPED:-} ]]; then
    export TRAINBENCH_REGROUPED=1
    exec sg docker -c "$(printf '%q ' "$HERE/scripts/run.sh" "$@")"
  fi
  fail 6 "this user may not use Docker: run sudo usermod -aG docker $(id -un) and log in again," \
    "or use sudo $0"
}

# The development environment contains Popper; without it Popper gets an environment of its own. So
# it does beside one that is half made: its set-up runs, or was interrupted.
environment() {
  if [[ -x .venv/bin/popper && -e .venv/.installed ]]; then echo .venv; else echo .venv-popper; fi
}

ensure_popper() {
  [[ $(environment) == .venv ]] || make_environment .venv-popper "$POPPER_REQUIREMENTS"
}

# Before the first build: it names what would make every step fail.
probe_engine() {
  local code=0
  "$(environment)/bin/python" settings.py --probe || code=$?
  case $code in
    0) ;;
    2 | 6) exit "$code" ;;
    *) fail 6 "$(environment): its Python cannot look at the engine (see above); remove this folder" \
      "to have it made again" ;;
  esac
}

ensure_registry() {
  local code=0
  "$(environment)/bin/python" scripts/registry.py "$REGISTRY_WAIT_S" || code=$?
  case $code in
    0) return ;;
    7) say "no image registry answers within $REGISTRY_WAIT_S s:" \
      "using a local one (scripts/local_registry.sh)" ;;
    *) fail 6 "the image registry gives no debian:bookworm-slim (see above)" ;;
  esac
  ./scripts/local_registry.sh ||
    fail 6 "no image registry: scripts/local_registry.sh failed (see above)"
}

run_workflow() {
  local code=0 start popper
  start=$(date +%s)
  popper=$HERE/$(environment)/bin/popper
  trap interrupt INT TERM HUP
  trap remove_containers EXIT
  # In a session of its own: the terminal's Ctrl-C reaches this script only, which hands it on once.
  cd "$workspace"
  KEEP_CONTAINERS=1 setsid "$popper" run -f wf.yml -c settings.py "$@" &
  popper_pid=$!
  cd "$HERE"
  wait "$popper_pid" || code=$?
  while kill -0 "$popper_pid" 2>/dev/null; do
    code=0
    wait "$popper_pid" || code=$?
  done
  [[ $interrupted == yes ]] && exit 130
  # 6: settings.py refused; the containers, if any, belong to another run.
  if [[ $code == 6 || $code == 2 ]]; then trap - EXIT; exit "$code"; fi
  if [[ $code != 0 ]]; then code=$(step_code "$code"); fi
  say "finished with exit code $code after $(($(date +%s) - start)) s"
  tell_report "$start"
  exit "$code"
}

interrupt() {
  interrupted=yes
  say "stopping"
  # Not INT: a shell starts background processes deaf to it, and Popper hears it late.
  kill -TERM "$popper_pid" 2>/dev/null || true
}

# Popper folds every failure to 1; the container of the last step still knows its own code.
step_code() {
  local last code
  last=$(our_containers | head -n 1)
  code=$([[ -n $last ]] && docker inspect -f '{{.State.ExitCode}}' "$last")
  if [[ ${code:-0} == 0 ]]; then echo "$1"; else echo "$code"; fi
}

# Newest first. Popper names a container after its step and a hash of the checkout's path.
our_containers() {
  docker ps -aq --filter "name=^/?popper_[A-Za-z0-9_.-]+_$(checkout_hash)\$"
}

checkout_hash() {
  "$(environment)/bin/python" - "$workspace" <<'PY'
import hashlib
import sys

print(hashlib.shake_256(sys.argv[1].encode()).hexdigest(4))
PY
}

remove_containers() {
  local containers
  containers=$(our_containers) || return 0
  # shellcheck disable=SC2086  # one word per container
  [[ -z $containers ]] || docker rm -f $containers >/dev/null
}

tell_report() {
  local report
  report=$(realpath -m -- "${DATA_DIR:-data}/runs/latest")/report/report.html
  if [[ -e $report && $(stat -c %Y "$report") -ge $1 ]]; then
    say "report: $report"
  fi
}

main "$@"
