"""trainbench: a training benchmark that people can trust and re-run."""

from __future__ import annotations

__version__ = "0.2.0"
