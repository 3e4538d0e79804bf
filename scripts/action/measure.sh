#!/usr/bin/env bash
# Step of action.yml: trains. A missed target or a broken rule is a result for the steps behind it.
set -euo pipefail

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
  cat <<'TEXT'
Usage: scripts/action/measure.sh    (called by action.yml)

Environment: INPUT_BENCHMARK, INPUT_PRESET, INPUT_SET (lines of KEY=VALUE), INPUT_RUNS, INPUT_SEED,
INPUT_DATA_DIR, TRAINBENCH_PYTHON, RUNNER_TEMP. Outputs: results, report, exit-code.
Exit codes: 0 there is a report; otherwise that of trainbench pipeline.
TEXT
  exit 0
fi

data=${INPUT_DATA_DIR:-$RUNNER_TEMP/trainbench/data}
words=(pipeline)
[[ ${INPUT_BENCHMARK:-ncf} == ncf ]] || words=("$INPUT_BENCHMARK" pipeline)
words+=(--preset "${INPUT_PRESET:-quick}" --runs "${INPUT_RUNS:-3}" --data-dir "$data")
[[ -z ${INPUT_SEED:-} ]] || words+=(--seed "$INPUT_SEED")
while IFS= read -r setting; do
  [[ -z $setting ]] || words+=(--set "$setting")
done <<<"${INPUT_SET:-}"

code=0
"$TRAINBENCH_PYTHON" -m trainbench "${words[@]}" || code=$?
report=$data/runs/latest/report
case $code in
  0 | 4 | 5) ;;
  *) echo "::error::trainbench pipeline ended with exit code $code" >&2; exit "$code" ;;
esac
{
  echo "results=$report/results.json"
  echo "report=$report"
  echo "exit-code=$code"
} >>"$GITHUB_OUTPUT"
