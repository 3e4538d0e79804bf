"""The claims about GPUs stand in docs/devices.md and in the script that checks them."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "gpu_acceptance.sh"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([SCRIPT, *arguments], capture_output=True, text=True, check=False)


def test_page_and_script_list_the_same_claims() -> None:
    of_page = re.findall(
        r"^\| `([a-z0-9-]+)` \| (.+) \|$",
        (ROOT / "docs/devices.md").read_text().split("## GPU claims")[1],
        re.MULTILINE,
    )
    listed = [tuple(line.split(": ", 1)) for line in run("--list").stdout.splitlines()]
    assert listed
    assert of_page == listed


def test_pages_that_say_what_was_not_tested_on_a_gpu_lead_to_the_claims() -> None:
    # The word is the page's own; devices.md has the list.
    silent = [
        page.name
        for page in (ROOT / "docs").glob("*.md")
        if re.search(r"not tested on a\s+GPU", page.read_text(), re.IGNORECASE)
        and "devices.md#gpu-claims" not in page.read_text()
    ]
    assert silent == []


def test_one_claim_is_checked_on_the_cpu_and_written_as_record_and_page(tmp_path: Path) -> None:
    done = run("--devices", "cpu", "--only", "whole-epoch", "--only", "recorded", "--out", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / "acceptance.json").read_text())
    results = {claim["claim"]: claim["result"] for claim in record["claims"]}
    assert results == {"whole-epoch": "passed", "recorded": "skipped"}
    page = (tmp_path / "acceptance.md").read_text()
    assert "1 passed, 0 failed, 1 skipped" in page
    assert "| recorded |" in page
    assert "not there: a GPU's sensors" in page


def test_an_unknown_claim_is_a_usage_error() -> None:
    done = run("--only", "wings")
    assert done.returncode == 2
    assert "wings" in done.stderr
