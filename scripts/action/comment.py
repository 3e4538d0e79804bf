"""Writes the comparison as the one comment of this action on a pull request.

The comment is found again by its first line, so a pull request has one, with the newest numbers.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import requests

TIMEOUT_S = 30
PAGES = 20


def main() -> int:
    """Create or replace the comment; the exit code is 0 where the token may not."""
    body = Path(os.environ["PAGE"]).read_text(encoding="utf-8")
    event = json.loads(Path(os.environ["GITHUB_EVENT_PATH"]).read_text(encoding="utf-8"))
    number = (event.get("pull_request") or {}).get("number")
    if number is None:
        print("no pull request: no comment")
        return 0
    api = os.environ.get("GITHUB_API_URL", "https://api.github.com")
    repository = f"{api}/repos/{os.environ['GITHUB_REPOSITORY']}/issues"
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {os.environ['INPUT_TOKEN']}"
        session.headers["Accept"] = "application/vnd.github+json"
        try:
            url = write(session, repository, int(number), body)
        except requests.RequestException as error:
            return refused(error)
    print(f"comment: {url}")
    return 0


def write(session: requests.Session, repository: str, number: int, body: str) -> str:
    """The address of the comment, which is new or has a new body."""
    own = existing(session, repository, number, body.splitlines()[0])
    if own is None:
        done = _asked(session, "POST", f"{repository}/{number}/comments", json={"body": body})
    else:
        done = _asked(session, "PATCH", f"{repository}/comments/{own}", json={"body": body})
    return str(done["html_url"])


def existing(session: requests.Session, repository: str, number: int, marker: str) -> int | None:
    """The id of the comment that begins with ``marker``."""
    for page in range(1, PAGES + 1):
        options = {"per_page": 100, "page": page}
        found = _asked(session, "GET", f"{repository}/{number}/comments", params=options)
        for comment in found:
            if str(comment.get("body") or "").startswith(marker):
                return int(comment["id"])
        if len(found) < options["per_page"]:
            return None
    return None


def _asked(session: requests.Session, method: str, url: str, **options: Any) -> Any:
    answer = session.request(method, url, timeout=TIMEOUT_S, **options)
    answer.raise_for_status()
    return answer.json()


def refused(error: requests.RequestException) -> int:
    """Say why there is no comment; a token that may not write is no failure of the job."""
    status = error.response.status_code if error.response is not None else None
    if status in (401, 403, 404):
        print(
            f"::warning::no comment: the token may not write (HTTP {status}); on pull requests "
            "from forks it never may. The summary of the job has the comparison"
        )
        return 0
    print(f"::error::no comment: {type(error).__name__} (HTTP {status})")
    return 6


if __name__ == "__main__":
    sys.exit(main())
