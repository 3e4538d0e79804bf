"""The version is one, wherever it is written down."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

import trainbench

CHECKOUT = Path(__file__).resolve().parents[2]


def test_citation_and_changelog_name_the_version_and_its_day() -> None:
    citation = yaml.safe_load((CHECKOUT / "CITATION.cff").read_text())
    newest = re.search(r"^## (\d.*) - (.*)$", (CHECKOUT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest.groups() == (citation["version"], str(citation["date-released"]))
    assert citation["version"] == trainbench.__version__
