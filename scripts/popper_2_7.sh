#!/usr/bin/env bash
# Runs the workflow with Popper 2.7, which reads neither settings.py nor the wf.yml of this folder.
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: scripts/popper_2_7.sh [--images] DIR [STEP] [any other option of popper run]

Makes .venv-popper-2.7 (every package by hash), writes wf.yml and popper.yml into DIR with
  python settings.py --popper-2.7 DIR
and runs in DIR
  popper run -f wf.yml -c popper.yml [STEP] [OPTION ...]
Docker has to run and an image registry to answer: scripts/run.sh sets these up, and runs the
workflow with Popper 2.5.0, which this project prefers (docs/decisions.md).

  --images   first: the workflow of image_classification/
  --help     this text

Environment: that of settings.py. It is written into DIR/popper.yml.
Exit codes: 0 ok; 1 a step failed (its own code is in DATA_DIR/steps.jsonl); 2 usage;
            6 environment; 130 interrupted.
Example: PRESET=quick scripts/popper_2_7.sh /tmp/twin
TEXT
}

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
readonly HERE
readonly ENVIRONMENT=.venv-popper-2.7

# shellcheck source=scripts/environment.sh
source "$HERE/scripts/environment.sh"

main() {
  local settings=settings.py folder
  case ${1:-} in -h | --help) usage; exit 0 ;; esac
  if [[ ${1:-} == --images ]]; then settings=image_classification/settings.py; shift; fi
  [[ -n ${1:-} && $1 != -* ]] || fail 2 "wanted a folder for wf.yml and popper.yml (see --help)"
  folder=$(realpath -m -- "$1")
  shift
  if [[ -n ${DATA_DIR:-} ]]; then DATA_DIR=$(realpath -m -- "$DATA_DIR"); export DATA_DIR; fi
  if [[ -d ${MIRROR:-} ]]; then MIRROR=$(realpath -- "$MIRROR"); export MIRROR; fi
  cd "$HERE"
  make_environment "$ENVIRONMENT" scripts/requirements-popper-2-7.txt
  complete_environment
  "$ENVIRONMENT/bin/python" "$settings" --popper-2.7 "$folder"
  cd "$folder"
  exec "$HERE/$ENVIRONMENT/bin/popper" run -f wf.yml -c popper.yml "$@"
}

# Popper 2.6 and 2.7 use importlib.util without importing it, which works only where another package
# has done so.
complete_environment() {
  local packages
  packages=$("$ENVIRONMENT/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  echo "import importlib.util" >"$packages/popper_importlib.pth"
}

main "$@"
