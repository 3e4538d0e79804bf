"""junit.xml: one case per rule of a level, so that CI shows the broken ones by name."""

from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from trainbench.report.judge import judge
from trainbench.report.model import LEVELS, LogFinding, Results
from trainbench.report.text import shown

# What XML 1.0 cannot hold at all, not even escaped.
FORBIDDEN = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(results: Results) -> str:
    """The rules of every level and the outcome of every trial as test cases."""
    root = ET.Element("testsuites", name="trainbench ncf")
    _trials(root, results)
    for level in LEVELS:
        _level(root, results, level)
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _trials(root: ET.Element, results: Results) -> None:
    cases = []
    for trial in results.trials:
        name = f"trial {trial.index} reached its target"
        state = trial.status.state
        message = None if state == "converged" else f"{shown(state)}: {trial.status.message or ''}"
        cases.append((name, message, message or ""))
    if not cases:
        cases.append(("a trial was started", judge(results).headline, ""))
    _suite(root, "outcome", cases)


def _level(root: ET.Element, results: Results, level: str) -> None:
    found: dict[str, list[tuple[str, LogFinding]]] = {}
    for trial in results.trials:
        for finding in trial.log.levels.get(level, ()) if trial.log else ():
            found.setdefault(finding.rule, []).append((trial.log.file, finding))  # type: ignore[union-attr]
    names = dict.fromkeys([rule for rule, _ in results.rules.get(level, ())])
    cases = []
    for rule in [*names, *(r for r in found if r not in names)]:
        lines = [_sentence(file, f) for file, f in found.get(rule, [])]
        cases.append((rule, lines[0] if lines else None, "\n".join(lines)))
    if any(trial.log for trial in results.trials):
        _suite(root, f"level {level}", cases)


def _suite(root: ET.Element, name: str, cases: list[tuple[str, str | None, str]]) -> None:
    failures = sum(message is not None for _, message, _ in cases)
    suite = ET.SubElement(
        root, "testsuite", name=name, tests=str(len(cases)), failures=str(failures), errors="0"
    )
    for case, message, detail in cases:
        element = ET.SubElement(suite, "testcase", classname=f"ncf.{name}", name=_clean(case))
        if message is not None:
            failure = ET.SubElement(element, "failure", message=_clean(message))
            failure.text = _clean(detail)


def _sentence(file: str, finding: LogFinding) -> str:
    place = f"{file}:{finding.line_number}" if finding.line_number else file
    return f"{place}: found {shown(finding.found)}; wanted {shown(finding.wanted)}"


def _clean(value: str) -> str:
    return FORBIDDEN.sub("�", value)
