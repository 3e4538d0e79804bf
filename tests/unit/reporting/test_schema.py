"""The published schema of results.json is the one of the records that are written."""

from __future__ import annotations

import runpy

from checkout import CHECKOUT


def test_the_published_schema_is_that_of_the_records() -> None:
    script = runpy.run_path(str(CHECKOUT / "scripts" / "results_schema.py"))
    assert script["FILE"].read_text() == script["text"](script["schema"]()) + "\n", (
        "run python scripts/results_schema.py"
    )
    assert script["LOGS_FILE"].read_text() == script["text"](script["logs_schema"]()) + "\n"
