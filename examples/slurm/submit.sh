#!/usr/bin/env bash
# Submits an array of N trials into one set, and its report after them (docs/slurm.md).
#
#   PRESET=mlperf DATA_DIR=/shared/data examples/slurm/submit.sh 100
#   examples/slurm/submit.sh 100 3,17 set-4711     # trials 3 and 17 of that set once more
#
# Arguments: N [NUMBERS SET]. Environment: as in trials.sbatch. Prints the jobs and the set.
set -euo pipefail

if [[ ! ${1-} =~ ^[1-9][0-9]*$ || $# == 2 ]]; then
  sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
  [[ ${1-} == --help || ${1-} == -h ]] && exit 0
  exit 2
fi

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
export OF=$1
if (($# > 1)); then export SET_NAME=$3; fi
array=$(sbatch --parsable --array="${2:-0-$((OF - 1))}" "$here/trials.sbatch")
export SET_NAME=${SET_NAME:-set-$array}
report=$(sbatch --parsable --dependency=afterany:"$array" "$here/report.sbatch")
echo "trials: job $array, report: job $report, set: $SET_NAME"
