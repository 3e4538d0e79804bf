#!/usr/bin/env bash
# Slurm of Debian's packages with two nodes on this machine, and workers in network namespaces.
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: scripts/slurm.sh [slurm | namespaces | --help]

slurm       A Slurm of two nodes, started here and ended here: a step that trains together, and an
            array of trials into one set, with a task killed and a node drained in the middle.
namespaces  Four and eight workers with addresses of their own, one cut off and one slow.

Both without an argument. Needs root and .venv (scripts/test.sh makes it); installs Debian's slurmd,
slurmctld, slurm-client and munge where they are missing, none of which is started as a service.

Exit codes: 0 all as it should be; 1 something is not; 2 usage; 6 the set-up failed.
Example: scripts/slurm.sh namespaces
TEXT
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/environment.sh
source scripts/environment.sh
case ${1:-} in
  -h | --help) usage; exit 0 ;;
  "" | slurm | namespaces) ;;
  *) echo "slurm.sh: unknown argument $1 (see --help)" >&2; exit 2 ;;
esac
[[ $(id -u) == 0 ]] || fail 6 "scripts/slurm.sh needs root: munge, nodes and namespaces do"
policy=/usr/sbin/policy-rc.d
if ! command -v slurmctld slurmd srun munged >/dev/null; then
  made=
  if [[ ! -e $policy ]]; then
    made=yes
    trap 'rm -f "$policy"' EXIT
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
  fi
  apt_install slurmctld slurmd slurm-client munge
  [[ -z $made ]] || rm -f "$policy"
fi
command -v ip iptables >/dev/null || apt_install iproute2 iptables
PYTHONPATH=$PWD/src .venv/bin/python tests/slurm "$@"
