#!/usr/bin/env bash
# Step of action.yml on the default branch: this measurement becomes the baseline.
set -euo pipefail

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
  echo "Usage: scripts/action/keep.sh    (called by action.yml; RESULTS, RUNNER_TEMP)"
  exit 0
fi

mkdir -p "$RUNNER_TEMP/trainbench/baseline"
cp -- "$RESULTS" "$RUNNER_TEMP/trainbench/baseline/results.json"
