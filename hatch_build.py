"""Puts the workflow into the wheel: what ``trainbench init`` writes beside the code."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Workflow(BuildHookInterface):
    """Adds ``files`` of pyproject.toml as trainbench/workflow; an editable one reads the checkout.

    Not hatchling's own force-include: that adds them to an editable installation as well, where
    they would grow old.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called by hatchling before it collects the files of the wheel."""
        if version == "editable":
            return
        for name in self.config["files"]:
            for path in _files(Path(self.root, name)):
                inside = path.relative_to(self.root).as_posix()
                build_data["force_include"][str(path)] = f"trainbench/workflow/{inside}"


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    # What settings.py tells the Dockerfiles of this machine is no part of the workflow.
    found = [p for p in sorted(path.rglob("*")) if p.is_file() and "__pycache__" not in p.parts]
    return [p for p in found if p.name not in ("accelerator", "formats")]
