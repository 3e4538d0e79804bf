#!/usr/bin/env bash
# Tests the lower bounds of pyproject.toml: logs and report with the oldest versions allowed.
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: scripts/lowest.sh [--help]

Makes a temporary environment with the lowest direct versions that pyproject.toml allows (with the
extras report, mllog and tensorboard), and runs the tests of compliance and of reporting in it. Needs python3.11.
Exit codes: 0 all passed; otherwise that of uv or of pytest.
Example: scripts/lowest.sh
TEXT
}

case ${1:-} in
  "") ;;
  -h | --help) usage; exit 0 ;;
  *) echo "lowest.sh: unknown option $1 (see --help)" >&2; exit 2 ;;
esac

cd "$(dirname "${BASH_SOURCE[0]}")/.."
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

python3.11 -m venv "$folder"
python=$folder/bin/python
"$python" -m pip install --quiet --disable-pip-version-check uv
uv=("$python" -m uv pip)
"${uv[@]}" compile --quiet --resolution lowest-direct --python-version 3.11 --extra report \
  --extra mllog --extra tensorboard --output-file "$folder/lowest.txt" pyproject.toml
"${uv[@]}" install --quiet --python "$python" -r "$folder/lowest.txt" pytest hypothesis jsonschema
"${uv[@]}" install --quiet --python "$python" --no-deps .
"$python" -m pytest -p no:cacheprovider tests/unit/test_base_install.py tests/unit/compliance \
  tests/unit/reporting tests/property/test_compliance_lines.py tests/property/test_report_input.py \
  tests/golden/test_report_text.py
