#!/usr/bin/env bash
# Opens a page of every kind in Chromium: accessibility, phone, dark, paper. Keeps pictures.
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: scripts/browser.sh [FOLDER | --help]

Writes a report of every kind and opens each in Chromium: no violation of axe's rules, nothing on the
console, no sideways scrolling on a phone, words for every drawing, no table cut on paper. Pictures
(wide, phone, dark, print) go to FOLDER, build/pictures by default. Needs .venv (scripts/test.sh
makes it); installs Debian's chromium where it is missing, and makes .venv-browser.

  CHROMIUM=PATH   Use this browser.

Exit codes: 0 nothing is wrong; 1 something is; 2 usage; 6 the set-up failed.
Example: scripts/browser.sh build/pictures
TEXT
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/environment.sh
source scripts/environment.sh
case ${1:-} in
  -h | --help) usage; exit 0 ;;
  -*) echo "browser.sh: unknown option $1 (see --help)" >&2; exit 2 ;;
esac
out=${1:-build/pictures}
browser=${CHROMIUM:-$(command -v chromium || true)}
if [[ -z $browser ]]; then
  apt_install chromium fonts-dejavu-core
  browser=$(command -v chromium)
fi
make_environment .venv-browser scripts/requirements-browser.txt
pages=$(mktemp -d)
trap 'rm -rf "$pages"' EXIT
say "pages of every kind"
.venv/bin/python tests/browser/pages.py "$pages"
mkdir -p "$out"
rm -f "$out"/*.png "$out"/*.pdf
.venv-browser/bin/python tests/browser "$pages" "$out" "$browser"
