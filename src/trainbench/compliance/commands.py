"""What the commands ``check`` and ``stitch`` print and return; the command line only calls them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainbench.compliance.check import check_reading
from trainbench.compliance.event import Event, Finding
from trainbench.compliance.outcome import Outcome, outcome
from trainbench.compliance.reading import NEWEST_CHECKER, read_file
from trainbench.compliance.rules.cross_log import check_set
from trainbench.compliance.rules.levels import RuleSet, ruleset
from trainbench.compliance.two_clocks import of_log
from trainbench.display.visible import one_line

CLEAN, FINDINGS, UNREADABLE = 0, 1, 2


@dataclass(frozen=True)
class FileCheck:
    """One log checked; ``error`` instead of an outcome when it cannot be read."""

    file: str
    findings: tuple[Finding, ...]
    outcome: Outcome | None
    error: str | None = None

    def text(self, rules: RuleSet) -> str:
        """The findings, one a line, and a closing line."""
        file = one_line(self.file)
        if self.outcome is None:
            return f"{file}: cannot be read ({self.error})"
        lines = [f"{file}: {one_line(str(finding))}" for finding in self.findings]
        count = len(self.findings)
        verdict = f"{count} finding{'' if count == 1 else 's'}" if count else "compliant"
        checker = f"level {rules.level}, checker {rules.checker}"
        lines.append(f"{file}: {verdict} ({checker}); {_sentence(self.outcome)}")
        return "\n".join(lines)


@dataclass(frozen=True)
class CheckReport:
    """Some logs checked alone and, at level strict, as a set."""

    rules: RuleSet
    files: tuple[FileCheck, ...]
    set_findings: tuple[Finding, ...]

    @property
    def exit_code(self) -> int:
        """0 clean, 1 findings, 2 a file could not be read."""
        if any(file.outcome is None for file in self.files):
            return UNREADABLE
        return FINDINGS if self.set_findings or any(f.findings for f in self.files) else CLEAN

    def to_text(self) -> str:
        """What ``check`` prints."""
        lines = [file.text(self.rules) for file in self.files]
        readable = sum(file.outcome is not None for file in self.files)
        lines += [
            f"set of {readable} logs: {one_line(str(finding))}" for finding in self.set_findings
        ]
        return "\n".join(lines) + "\n"

    def to_json(self) -> str:
        """What ``check --json`` prints, the same for the same logs."""
        content: dict[str, Any] = {
            "schema": 1,
            "level": self.rules.level,
            "checker": self.rules.checker,
            "files": [asdict(file) for file in self.files],
            "set": [asdict(finding) for finding in self.set_findings],
        }
        return json.dumps(content, indent=2) + "\n"


def check_logs(
    files: Sequence[Path],
    *,
    level: str,
    checker: str = NEWEST_CHECKER,
    benchmark: str | None = None,
) -> CheckReport:
    """Check every file at a level; several files at level strict are also checked as one set.

    Raises:
        ConfigError: an unknown level, checker or benchmark.
    """
    rules = ruleset(level, checker=checker, benchmark=benchmark)
    checked: list[FileCheck] = []
    logs: dict[str, tuple[Event, ...]] = {}
    for path in files:
        try:
            # Once: a pipe cannot be read again.
            log = read_file(path, checker)
        except OSError as error:
            checked.append(FileCheck(str(path), (), None, error.strerror or str(error)))
            continue
        logs[str(path)] = log.told
        clocks = of_log(path) if rules.strict else None
        found = tuple(check_reading(log, rules, clocks))
        checked.append(FileCheck(str(path), found, outcome(log.told)))
    as_set = check_set(logs) if rules.strict and len(logs) > 1 else []
    return CheckReport(rules, tuple(checked), tuple(as_set))


def _sentence(run: Outcome) -> str:
    time_s = "no run time" if run.time_s is None else f"{run.time_s:.2f} s"
    best = "no eval_accuracy" if run.best is None else f"best {run.best:.9g}"
    target = "no single target" if run.target is None else f"target {run.target}"
    return f"{time_s}, {best}, {target}, {'' if run.converged else 'not '}converged"
