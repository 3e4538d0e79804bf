#!/usr/bin/env bash
# Checks every claim of the documentation about GPUs on this machine, in one go.
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: scripts/gpu_acceptance.sh [--help] [--list] [--only CLAIM]... [--resume]
         [--devices gpu|cpu] [--out DIR] [--limit-s SECONDS] [--minutes MINUTES]

Checks the claims listed in docs/devices.md ("GPU claims"), each in a process of its own. DIR
(default: build/gpu_acceptance) gets acceptance.json and acceptance.md, both whole after every
claim, and a folder for each claim with its log.

  --list             the claims, one a line, and nothing else
  --only CLAIM       this claim; repeatable
  --resume           go on in DIR: what passed or was skipped there is kept, unless --only names
                     it; with --only, what failed there too, and this call then ends with 1
  --devices cpu      the same on the CPU, two logical devices for several GPUs: what needs a GPU is
                     skipped by name; it shows that the checks themselves work
  --limit-s SECONDS  a claim that takes longer has failed (default: 600)
  --minutes MINUTES  after which no further claim begins, and the one that runs is ended and counts
                     as not run (default: 55)

It uses the first Python that has what is needed: .venv-gpu, .venv, python3. Where there is none it
makes one: .venv from requirements.lock; for GPUs .venv-gpu, with the CUDA wheels too (5 GiB).
Exit codes: 0 none failed; 1 one failed or did not run; 2 usage; 3 --resume: not a record of the
same machine and code; 6 no GPU, the set-up failed, or DIR cannot be written; 130 interrupted.
Example: scripts/gpu_acceptance.sh --only one-device --devices cpu
TEXT
}

for word; do
  case $word in
    -h | --help) usage; exit 0 ;;
  esac
done

here=$PWD
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/environment.sh
source scripts/environment.sh

sees_gpu() {
  TF_CPP_MIN_LOG_LEVEL=2 PYTHONPATH=src "$1" -c '
import sys, tensorflow, trainbench.cli.main
sys.exit(not tensorflow.config.list_physical_devices("GPU"))' 2>/dev/null
}

# A Python whose TensorFlow computes on this machine's GPUs.
gpu_python() {
  local python
  nvidia-smi -L 2>/dev/null | grep -q '^GPU' ||
    fail 6 "no GPU here: nvidia-smi lists none; wanted one, or --devices cpu"
  for python in .venv-gpu/bin/python .venv/bin/python python3; do
    if sees_gpu "$python"; then
      command -v "$python"
      return
    fi
  done
  mkdir -p build
  # The lock, and NVIDIA's wheels as the image for training has them.
  {
    cat requirements.lock
    awk '/^[^ ]/ { of_cuda = /^nvidia-/ } of_cuda' containers/train/requirements-cuda.txt
  } >build/requirements-gpu.txt
  make_environment .venv-gpu build/requirements-gpu.txt 13 >&2 || exit
  sees_gpu .venv-gpu/bin/python ||
    fail 6 "TensorFlow in .venv-gpu sees no GPU, nvidia-smi does; see docs/errors.md, or type:" \
      ".venv-gpu/bin/python -c 'import tensorflow as t; t.config.list_physical_devices(\"GPU\")'"
  echo .venv-gpu/bin/python
}

any=$(find_python 13) || exit
# Wrong options are told before anything is set up.
plan=$(PYTHONPATH=scripts "$any" -m gpu_acceptance --plan yes "$@") || exit
case $plan in
  list) PYTHONPATH=scripts exec "$any" -m gpu_acceptance --list ;;
  gpu) python=$(gpu_python) || exit ;;
  cpu) python=$(project_python) || exit ;;
esac
[[ $python == /* ]] || python=$PWD/$python
export PYTHONPATH="$PWD/src:$PWD/scripts${PYTHONPATH:+:$PYTHONPATH}"
# What the caller names is named from where the caller is.
cd "$here"
exec "$python" -m gpu_acceptance "$@"
