#!/usr/bin/env bash
# Step of action.yml: one comment on the pull request, written anew each time.
set -euo pipefail

if [[ ${1:-} == -h || ${1:-} == --help ]]; then
  cat <<'TEXT'
Usage: scripts/action/comment.sh    (called by action.yml)

Environment: PAGE (the comment's file), INPUT_TOKEN, TRAINBENCH_PYTHON, GITHUB_API_URL,
GITHUB_REPOSITORY, GITHUB_EVENT_PATH. A token that may not comment, as on a pull request from a
fork, is a warning.
TEXT
  exit 0
fi

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
exec "$TRAINBENCH_PYTHON" "$here/comment.py"
