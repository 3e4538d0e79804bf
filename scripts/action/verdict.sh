#!/usr/bin/env bash
# Last step of action.yml: the job fails where the training or the gate does, after the comment.
set -euo pipefail

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
  echo "Usage: scripts/action/verdict.sh    (called by action.yml; MEASURED, GATE: exit codes)"
  exit 0
fi

if [[ ${GATE:-0} != 0 ]]; then
  echo "::error::worse than the baseline (exit code $GATE)" >&2
  exit "$GATE"
fi
if [[ ${MEASURED:-0} != 0 ]]; then
  echo "::error::the report's verdict is exit code $MEASURED" >&2
  exit "$MEASURED"
fi
