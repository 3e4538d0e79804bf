#!/usr/bin/env bash
# Builds the site of the documentation into build/site, without dead links.
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: scripts/docs.sh [--samples DIR | --errors]

Builds build/site from the README, docs/ and the help of every command, and looks for dead links.
It opens from a disk: build/site/index.html, search included, without a network.
Sets up .venv (as scripts/test.sh does) and .venv-docs where they are missing or out of date (the
latter wants Python 3.11 or later).

  --samples DIR   add sample reports of the runs in DIR/quick and DIR/images; runs that are missing
                  are made there, in a few minutes
  --errors        write docs/errors.md again, and build no site

Exit codes: 0 built; 1 a dead link, or a page outside the navigation; 2 usage; 6 the set-up failed.
Example: scripts/docs.sh --samples /tmp/samples
TEXT
}

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
readonly HERE
runs=()
case ${1:-} in
  "") ;;
  -h | --help) usage; exit 0 ;;
  --samples)
    [[ -n ${2:-} ]] || { echo "docs.sh: --samples wants a folder (see --help)" >&2; exit 2; }
    runs=("$(realpath -m -- "$2")")
    ;;
  --errors) ;;
  *) echo "docs.sh: unknown option $1 (see --help)" >&2; exit 2 ;;
esac
cd "$HERE"
# shellcheck source=scripts/environment.sh
source scripts/environment.sh

make_environment .venv requirements.lock 13
install_project
export PYTHONPATH=$HERE/src:$HERE/scripts
if [[ ${1:-} == --errors ]]; then exec .venv/bin/python -m docs_site errors; fi
make_environment .venv-docs scripts/requirements-docs.txt
.venv/bin/python -m docs_site stage build/docs ${runs[@]+"${runs[@]}"}
# Not --quiet: --strict then counts no warning. The theme's remark on the end of its maintenance is
# in docs/decisions.md.
NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict -f build/mkdocs.yml
.venv/bin/python -m docs_site check build/site
say "the site: $HERE/build/site/index.html ($(find build/site -name '*.html' | wc -l) pages)"
