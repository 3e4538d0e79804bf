"""The stitched logs of a run, judged anew, whatever the trial said of itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainbench.paths import RunDir
from trainbench.report.model import LEVELS, LogCheck, LogFinding

CONTEXT_LINES = 2
MAX_LINE = 400


def logs_by_trial(run: RunDir, system: str | None, missing: list[str]) -> dict[int, LogCheck]:
    """The check of every ``result_<i>.txt`` of the run, by trial."""
    folder = _results_folder(run, system)
    found = {trial.index: folder / f"result_{trial.index}.txt" for trial in run.trials}
    for index, path in found.items():
        if not path.is_file():
            missing.append(
                f"{path.relative_to(run.root).as_posix()}: file not there (trial {index})"
            )
    recorded = _recorded(run)
    return {
        index: _check(path, run.root, recorded.get(index, {}))
        for index, path in found.items()
        if path.is_file()
    }


def rules() -> Mapping[str, tuple[tuple[str, str], ...]]:
    """The rules of each level, as (id, what it wants)."""
    return dict.fromkeys(LEVELS, ())


def score(run: RunDir, system: str | None) -> Mapping[str, Any] | None:
    """The v0.5 statistic of the run's result logs."""
    return None


def _results_folder(run: RunDir, system: str | None) -> Path:
    """``results/<system>/ncf``; the only one there is when run.json does not name the system."""
    if system is None:
        folders = sorted(run.root.glob("results/*/ncf"))
        return folders[0] if folders else run.results("unnamed")
    return run.results(system)


def _recorded(run: RunDir) -> dict[int, Mapping[str, Any]]:
    if not run.findings.is_file():
        return {}
    return {t["index"]: t for t in json.loads(run.findings.read_text())["trials"]}


def _check(path: Path, root: Path, recorded: Mapping[str, Any]) -> LogCheck:
    data = path.read_bytes()
    lines = data.decode("utf-8", errors="replace").splitlines()
    levels = recorded.get("levels", {})
    return LogCheck(
        file=path.relative_to(root).as_posix(),
        sha256=hashlib.sha256(data).hexdigest(),
        time_s=recorded.get("time_s"),
        run_start_unix_s=recorded.get("run_start_unix_s"),
        run_stop_unix_s=recorded.get("run_stop_unix_s"),
        success=recorded.get("success"),
        levels={
            level: tuple(_finding(f, lines) for f in levels.get(level, ())) for level in LEVELS
        },
    )


def _finding(record: Mapping[str, Any], lines: list[str]) -> LogFinding:
    number = record.get("line_number")
    return LogFinding(
        rule=str(record.get("rule")),
        line_number=number,
        line=record.get("line"),
        found=record.get("found"),
        wanted=record.get("wanted"),
        excerpt=excerpt(lines, number),
    )


def excerpt(lines: list[str], number: int | None) -> tuple[tuple[int, str], ...]:
    """The line with this number (from 1) and its neighbours, cut at ``MAX_LINE`` characters."""
    if number is None or not 1 <= number <= len(lines):
        return ()
    first, last = max(1, number - CONTEXT_LINES), min(len(lines), number + CONTEXT_LINES)
    return tuple((n, lines[n - 1][:MAX_LINE]) for n in range(first, last + 1))
