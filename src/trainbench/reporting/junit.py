"""junit.xml: one case per rule of a level, so that CI shows the broken ones by name."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from trainbench.compliance.rules.levels import LEVELS
from trainbench.reporting.records import LogFinding, Results
from trainbench.reporting.text import shown
from trainbench.reporting.verdict import judge


def junit(results: Results) -> str:
    """The rules of every level and the outcome of every trial as test cases."""
    root = ET.Element("testsuites", name=f"trainbench {results.benchmark.name}")
    _trials(root, results)
    for level in LEVELS:
        _level(root, results, level)
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _trials(root: ET.Element, results: Results) -> None:
    cases = []
    for trial in results.trials:
        name = f"trial {trial.index} reached its target"
        said = f"{shown(trial.status.state)}: {trial.status.message or 'see its stdout.log'}"
        message = None if trial.reached else said
        cases.append((name, message, message or ""))
    if not cases:
        cases.append(("a trial was started", judge(results).headline, ""))
    _suite(root, results.benchmark.name, "outcome", cases)


def _level(root: ET.Element, results: Results, level: str) -> None:
    """The rules that this level adds to those below it."""
    found: dict[str, list[str]] = {r.rule: [] for r in results.rules if r.level == level}
    logs = [trial.log for trial in results.trials if trial.log]
    for log in logs:
        for finding in log.findings:
            if finding.level == level:
                found.setdefault(finding.rule, []).append(_sentence(log.file, finding))
    for finding in results.set_findings if level == LEVELS[-1] else ():
        found.setdefault(finding.rule, []).append(_sentence("all logs", finding))
    if logs:
        cases = [(rule, says[0] if says else None, "\n".join(says)) for rule, says in found.items()]
        _suite(root, results.benchmark.name, f"level {level}", cases)


def _suite(
    root: ET.Element, benchmark: str, name: str, cases: list[tuple[str, str | None, str]]
) -> None:
    failures = sum(message is not None for _, message, _ in cases)
    suite = ET.SubElement(
        root, "testsuite", name=name, tests=str(len(cases)), failures=str(failures), errors="0"
    )
    for case, message, detail in cases:
        element = ET.SubElement(suite, "testcase", classname=f"{benchmark}.{name}", name=case)
        if message is not None:
            failure = ET.SubElement(element, "failure", message=message)
            failure.text = detail


def _sentence(file: str, finding: LogFinding) -> str:
    place = f"{file}:{finding.line_number}" if finding.line_number else file
    return f"{place}: found {finding.found}; wanted {finding.wanted}"
