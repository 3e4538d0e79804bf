#!/usr/bin/env bash
# One seed, timed from the outside, with the console lines of MLPerf v0.5.
set -euo pipefail

if [[ $# -gt 1 || ${1:-} == -h || ${1:-} == --help ]]; then
  cat <<'TEXT'
Usage: scripts/run_and_time.sh [SEED]

Trains once (train step of the workflow in this process tree) and prints
  STARTING TIMING RUN AT ...
  ENDING TIMING RUN AT ...
  RESULT,RECOMMENDATION,<seed>,<seconds>,<user>,<start>
The dataset must be downloaded and preprocessed. RESULT is printed only if the target was reached.
Environment: PRESET, SETTINGS, DATA_DIR as in settings.py. Exit codes: those of trainbench train.
Example: PRESET=ml-1m scripts/run_and_time.sh 1
TEXT
  [[ $# -le 1 ]] || exit 2
  exit 0
fi
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/environment.sh
source scripts/environment.sh
python=$(project_python)
seed=${1:-1}
export PYTHONPATH=src TRAINBENCH_SET=${TRAINBENCH_SET:-${SETTINGS:-}}

start=$(date +%s)
start_text=$(date '+%Y-%m-%d %r')
echo "STARTING TIMING RUN AT $start_text"
"$python" -m trainbench train --runs 1 --seed "$seed" --data-dir "${DATA_DIR:-data}"
end=$(date +%s)
echo "ENDING TIMING RUN AT $(date '+%Y-%m-%d %r')"
echo "RESULT,RECOMMENDATION,$seed,$((end - start)),$(id -un),$start_text"
