#!/usr/bin/env bash
# Writes requirements.lock and the images' requirements*.txt, every version pinned by hash.
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: scripts/lock.sh [--upgrade | --help]

Resolves pyproject.toml into requirements.lock, then each containers/*/requirements*.in into its
.txt with the same versions. Without --upgrade, versions that still fit stay as they are.
Needs the development environment (./scripts/test.sh makes it).
Exit codes: 0 written; 1 failed; 2 usage.
Example: scripts/lock.sh --upgrade
TEXT
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."
upgrade=()
case ${1:-} in
  "") ;;
  --upgrade) upgrade=(--upgrade) ;;
  -h | --help) usage; exit 0 ;;
  *) echo "lock.sh: unknown option $1 (see --help)" >&2; exit 2 ;;
esac

compile() {
  .venv/bin/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-annotate \
    --no-header "$@"
}

compile "${upgrade[@]}" --python-version 3.10 \
  --extra train --extra report --extra mllog --extra parquet --extra tensorboard --extra dev \
  --output-file requirements.lock pyproject.toml
echo "wrote requirements.lock"

# The image's Python is Debian 12's.
for source in containers/*/requirements*.in; do
  target=${source%.in}.txt
  rm -f "$target"
  compile --python-version 3.11 --constraint requirements.lock --output-file "$target" "$source"
  echo "wrote $target"
done

# Popper lives in an environment of its own where the development environment is absent.
compile --python-version 3.10 --constraint requirements.lock \
  --output-file scripts/requirements-popper.txt scripts/requirements-popper.in
echo "wrote scripts/requirements-popper.txt"

# So does the builder of the site, which shares no package with the project.
compile --python-version 3.11 --output-file scripts/requirements-docs.txt \
  scripts/requirements-docs.in
echo "wrote scripts/requirements-docs.txt"

# And what opens the pages in a browser.
compile --python-version 3.10 --output-file scripts/requirements-browser.txt \
  scripts/requirements-browser.in
echo "wrote scripts/requirements-browser.txt"

# Its own version of Popper and the versions of the lock for all else.
grep -oE '^[a-z0-9-]+==[^ ]+( ; [^\\]*)?' requirements.lock | grep -v '^popper==' |
  compile --python-version 3.10 --constraint - --override scripts/requirements-popper-2-7.override \
    --output-file scripts/requirements-popper-2-7.txt scripts/requirements-popper-2-7.in
echo "wrote scripts/requirements-popper-2-7.txt"
