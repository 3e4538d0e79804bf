#!/usr/bin/env bash
# Checks every claim of the documentation about GPUs on this machine, in one go.
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: scripts/gpu_acceptance.sh [--help] [--list] [--only CLAIM]... [--devices gpu|cpu] [--out DIR]

Checks the claims listed in docs/devices.md ("GPU claims"), each in a process of its own, and writes
acceptance.json and acceptance.md into DIR (default: build/gpu_acceptance).

  --list          the claims, one a line, and nothing else
  --only CLAIM    this claim; repeatable
  --devices cpu   the same on the CPU, two logical devices for several GPUs: what needs a GPU is
                  skipped by name; it shows that the checks themselves work

It uses the project's environment (.venv) where there is one, else python3.
Exit codes: 0 none failed; 1 one failed; 2 usage; 6 no GPU, or no TensorFlow.
Example: scripts/gpu_acceptance.sh --only one-device --devices cpu
TEXT
}

case ${1:-} in
  -h | --help) usage; exit 0 ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/.."
python=python3
if [ -x .venv/bin/python ]; then python=.venv/bin/python; fi
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" scripts/gpu_acceptance.py "$@"
