#!/usr/bin/env bash
# First step of action.yml: an environment with this package in the runner's temporary folder.
set -euo pipefail

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
  cat <<'TEXT'
Usage: scripts/action/setup.sh    (called by action.yml)

Makes $RUNNER_TEMP/trainbench/venv with trainbench, and puts it on the PATH of the steps behind it.
TRAINBENCH_PYTHON names a Python that has it already, which is taken instead.
Exit codes: 0 ready; 6 no Python from 3.10 on, or pip failed.
TEXT
  exit 0
fi

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
python=${TRAINBENCH_PYTHON:-}
if [[ -z $python ]]; then
  base=$(command -v python3 || command -v python || true)
  if [[ -z $base ]] || ! "$base" -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
    echo "::error::trainbench wants Python 3.10 or later; put actions/setup-python before it" >&2
    exit 6
  fi
  venv=$RUNNER_TEMP/trainbench/venv
  "$base" -m venv "$venv"
  python=$venv/bin/python
  [[ -x $python ]] || python=$venv/Scripts/python.exe
  "$python" -m pip install --quiet "${here}[train,report]" || exit 6
fi
echo "TRAINBENCH_PYTHON=$python" >>"$GITHUB_ENV"
