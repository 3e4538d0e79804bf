#!/usr/bin/env bash
# Step of action.yml: compares with the baseline and shows the comparison in the summary of the job.
set -euo pipefail

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
  cat <<'TEXT'
Usage: scripts/action/gate.sh    (called by action.yml)

Environment: RESULTS, INPUT_BASELINE, INPUT_THRESHOLD_PERCENT, INPUT_OTHER_MACHINE,
TRAINBENCH_PYTHON, RUNNER_TEMP. Without a baseline there is nothing to be worse than.
Outputs: exit-code (0, or 7: worse than the baseline), markdown, smaller-is-better,
bigger-is-better.
Exit codes: 0 compared; otherwise that of trainbench compare, as 2 for another task.
TEXT
  exit 0
fi

out=$RUNNER_TEMP/trainbench/out
mkdir -p "$out"
baseline=${INPUT_BASELINE:-}
if [[ -n $baseline && ! -e $baseline ]]; then
  echo "::error::baseline: $baseline: no such file or folder" >&2
  exit 2
fi
stored=$RUNNER_TEMP/trainbench/baseline/results.json
[[ -n $baseline || ! -e $stored ]] || baseline=$stored

words=(compare "$RESULTS" --threshold-percent "${INPUT_THRESHOLD_PERCENT:-5}"
  --other-machine "${INPUT_OTHER_MACHINE:-skip}" --markdown "$out/compare.md"
  --smaller-is-better "$out/smaller.json" --bigger-is-better "$out/bigger.json")
[[ -z $baseline ]] || words+=(--baseline "$baseline")
code=0
"$TRAINBENCH_PYTHON" -m trainbench "${words[@]}" || code=$?
case $code in
  0 | 7) ;;
  *) echo "::error::trainbench compare ended with exit code $code" >&2; exit "$code" ;;
esac
[[ -z ${GITHUB_STEP_SUMMARY:-} ]] || cat "$out/compare.md" >>"$GITHUB_STEP_SUMMARY"
{
  echo "exit-code=$code"
  echo "markdown=$out/compare.md"
  echo "smaller-is-better=$out/smaller.json"
  echo "bigger-is-better=$out/bigger.json"
} >>"$GITHUB_OUTPUT"
