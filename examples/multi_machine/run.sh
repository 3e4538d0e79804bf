#!/usr/bin/env bash
# NCF on two containers, like compose.yml but with docker alone. Arguments go to `trainbench train`.
#
#   PRESET=quick DATA_DIR=/tmp/two examples/multi_machine/run.sh --seed=5
#
# Environment: PRESET (quick), DATA_DIR (./data), SETTINGS, DROP_CACHES (0).
# The exit code is worker 0's.
set -euo pipefail

if [[ ${1-} == --help || ${1-} == -h ]]; then
  sed -n '2,7s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
  exit 0
fi

checkout=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd -P)
mkdir -p "${DATA_DIR:-$checkout/data}"
data=$(cd "${DATA_DIR:-$checkout/data}" && pwd -P)
name=trainbench-$$
hosts='["'$name'-0:2222", "'$name'-1:2222"]'
options=(
  --init --user "$(id -u):$(id -g)" -v "$checkout:/workspace:ro" -v "$data:/data"
  -e TRAINBENCH_DATA_DIR=/data -e PRESET="${PRESET:-quick}" -e DROP_CACHES="${DROP_CACHES:-0}"
  -e TRAINBENCH_SET="${SETTINGS-}"
)
if (($# == 0)); then set -- --seed=1; fi

# shellcheck disable=SC2329  # handed to trap
clean_up() {
  docker rm -f "$name-0" "$name-1" >/dev/null 2>&1
  docker network rm "$name" >/dev/null 2>&1
}
trap clean_up EXIT

for step in download preprocess; do
  docker run --rm "${options[@]}" "trainbench-$step:local" python -m trainbench "$step"
done
docker network create --internal "$name" >/dev/null
for index in 1 0; do
  docker run -d --name "$name-$index" --network "$name" "${options[@]}" \
    -e TF_CONFIG='{"cluster": {"worker": '"$hosts"'},
                   "task": {"type": "worker", "index": '$index'}}' \
    trainbench-train:local python -m trainbench train "$@" >/dev/null
done
docker logs -f "$name-0"
exit "$(docker wait "$name-0")"
