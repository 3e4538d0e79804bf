#!/usr/bin/env bash
# Verifies the files of a downloaded dataset against its manifest and the published checksums.
set -euo pipefail

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
  cat <<'TEXT'
Usage: scripts/verify_dataset.sh [option of trainbench download ...]

Verifies the dataset in the data directory (DATA_DIR, default ./data) and changes nothing.
Exit codes: 0 verified; 3 damaged, not the dataset it claims to be, or not downloaded;
            6 the set-up failed.
Example: scripts/verify_dataset.sh --dataset ml-20m
TEXT
  exit 0
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/environment.sh
source scripts/environment.sh
python=$(project_python)
PYTHONPATH=src exec "$python" -m trainbench download --verify --data-dir "${DATA_DIR:-data}" "$@"
