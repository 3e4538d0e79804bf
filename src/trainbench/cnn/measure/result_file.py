"""The file of ``--result_json``, written without TensorFlow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trainbench.files import write_atomically


def write(path: str, record: dict[str, Any]) -> None:
    """Write ``record`` whole; its folder is made."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, json.dumps(record, indent=1, allow_nan=False) + "\n")
