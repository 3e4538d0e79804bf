"""The files and folders that flags name, as far as their names tell; no TensorFlow."""

from __future__ import annotations

import re
from pathlib import Path

_STEP = re.compile(r"ckpt-(\d+)$")


def names_checkpoint(path: str) -> bool:
    """Whether ``path`` names one checkpoint, and not a folder of them."""
    return bool(_STEP.search(path)) and not Path(path).is_dir()


def step_of(checkpoint: str) -> int:
    """The global step in a checkpoint's name; 0 when there is none."""
    found = _STEP.search(checkpoint)
    return int(found[1]) if found else 0
