#!/usr/bin/env bash
# Last step of action.yml: the job fails where the training or the gate does, after the comment.
set -euo pipefail

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
  echo "Usage: scripts/action/verdict.sh    (called by action.yml; MEASURED, GATE: exit codes;"
  echo "  INPUT_REQUIRE_COMPLIANT: true makes a failure of 5, logs that are not compliant)"
  exit 0
fi

if [[ ${GATE:-0} != 0 ]]; then
  echo "::error::worse than the baseline (exit code $GATE)" >&2
  exit "$GATE"
fi
if [[ ${MEASURED:-0} == 5 && ${INPUT_REQUIRE_COMPLIANT:-false} != true ]]; then
  echo "::warning::the logs are not compliant, see the report; require-compliant makes it a failure"
  exit 0
fi
if [[ ${MEASURED:-0} != 0 ]]; then
  echo "::error::the report's verdict is exit code $MEASURED" >&2
  exit "$MEASURED"
fi
