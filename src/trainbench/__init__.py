"""trainbench: a training benchmark that people can trust and re-run.

import trainbench

run = trainbench.run("ncf", preset="quick", data_dir="data")
run.results["verdict"]["headline"], run.report
trainbench.check_log("result_0.txt", level="2")
trainbench.score("results/my-system/ncf").mean_s
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainbench.cli.interface import Run, check_log, report, run, score

__version__ = "0.7.0"
__all__ = ["Run", "__version__", "check_log", "report", "run", "score"]


def __getattr__(name: str) -> Any:
    # Only when asked for: a process that trains has no use for the command line's imports.
    if name in __all__:
        from trainbench.cli import interface

        return getattr(interface, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
