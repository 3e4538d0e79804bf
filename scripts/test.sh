#!/usr/bin/env bash
# Sets up what is missing, then lint, types and all tests.
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: scripts/test.sh [--lint | option of pytest ...]

Sets up .venv from requirements.lock (every package by hash) where it is missing or out of date,
then: shellcheck, check-jsonschema, ruff check, ruff format --check, mypy, lint-imports, codespell,
pytest.
Tests that need Docker run only where an engine answers.

  --lint          all but pytest; what the pre-commit hook runs
  other options   pytest alone, with these options

Exit codes: 0 all passed; otherwise that of the first tool that failed; 6 the set-up failed.
Example: scripts/test.sh tests/unit -k cache
TEXT
}

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
readonly HERE
cd "$HERE"
# shellcheck source=scripts/environment.sh
source scripts/environment.sh

main() {
  case ${1:-} in -h | --help) usage; exit 0 ;; esac
  command -v git >/dev/null || apt_install git
  # TensorFlow has no wheel for a later Python.
  make_environment .venv requirements.lock 13
  install_project
  case ${1:-} in
    --lint) lint ;;
    "") lint; tests ;;
    *) tests "$@" ;;
  esac
}

lint() {
  local shellcheck=.venv/bin/shellcheck
  if [[ ! -x $shellcheck ]]; then
    shellcheck=shellcheck
    command -v shellcheck >/dev/null || apt_install shellcheck
  fi
  check shellcheck "$shellcheck" -x ./*.sh scripts/*.sh scripts/action/*.sh \
    examples/*/*.sh .ci/run
  check action.yml quietly .venv/bin/check-jsonschema --builtin-schema vendor.github-actions \
    action.yml
  check workflows quietly .venv/bin/check-jsonschema --builtin-schema vendor.github-workflows \
    .github/workflows/*.yml
  check "ruff check" .venv/bin/ruff check --quiet
  check "ruff format" .venv/bin/ruff format --check --quiet
  check mypy .venv/bin/mypy
  check lint-imports quietly .venv/bin/lint-imports --no-logo
  check codespell .venv/bin/codespell
}

check() {
  local name=$1 start=$SECONDS code=0
  shift
  "$@" || code=$?
  [[ $code == 0 ]] || fail "$code" "$name found problems (see above)"
  say "$name: clean ($((SECONDS - start)) s)"
}

# Tools that print on success too.
quietly() {
  local code=0 output
  output=$("$@" 2>&1) || code=$?
  [[ $code == 0 ]] || echo "$output" >&2
  return "$code"
}

tests() {
  local docker=yes
  docker version >/dev/null 2>&1 || docker=no
  if [[ $docker == no ]]; then
    say "no Docker engine answers: tests marked docker are left out"
  fi
  if [[ $# != 0 ]]; then
    if [[ $docker == yes ]]; then pytest "$@"; else pytest -m "not docker" "$@"; fi
    return
  fi
  # At most four at once: some of the processes that they start take 2 GB. An engine is shared.
  pytest -m "not docker" -n auto --maxprocesses 4 --dist worksteal
  if [[ $docker == yes ]]; then pytest -m docker; fi
}

pytest() { .venv/bin/python -m pytest "$@"; }

main "$@"
