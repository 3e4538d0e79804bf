"""junit.xml: one case per trial and per rule of a level, so that CI shows the broken ones by name.

A case fails where it is a reason for the exit code of the run. A run with exit code 0 has no
failure: what was found in it and does not count is ``skipped``, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from xml.etree import ElementTree as ET

from trainbench.compliance.rules.levels import LEVELS
from trainbench.display.visible import visible
from trainbench.reporting import integrity
from trainbench.reporting.published.convergence import convergence
from trainbench.reporting.records import LogFinding, Results, Trial
from trainbench.reporting.text import shown
from trainbench.reporting.verdict import CLOCK_RULES, Verdict, grouped, judge

FAILURE, SKIPPED = "failure", "skipped"


@dataclass(frozen=True)
class Case:
    """A test case; ``outcome`` is FAILURE, SKIPPED or empty, ``time_s`` what it took on the clock.

    Rules are judged after the run and take none of its time.
    """

    name: str
    outcome: str = ""
    message: str = ""
    detail: str = ""
    time_s: float = 0.0


def junit(results: Results) -> str:
    """The verdict, the outcome of every trial and the rules of every level as test cases."""
    verdict = judge(results)
    suites = {"outcome": [_verdict(verdict), *_trials(results, verdict), *_plausible(results)]}
    if any(trial.log for trial in results.trials):
        suites |= {f"level {level}": list(_level(results, level)) for level in LEVELS}
        suites["records"] = list(_records(results))
    name = results.benchmark.name
    return suites_text(f"trainbench {name}", name, suites, results.run.created_unix_s)


def suites_text(
    title: str,
    prefix: str,
    suites: Mapping[str, Sequence[Case]],
    created_unix_s: float | None = None,
) -> str:
    """The suites by name as JUnit's XML; the class of a case is ``prefix`` and its suite."""
    root = ET.Element("testsuites", {"name": title})
    _count(root, [case for suite in suites.values() for case in suite])
    for name, cases in suites.items():
        suite = _suite(root, prefix, name, cases)
        if created_unix_s is not None and 0 <= created_unix_s < 4e9:
            # UTC without a zone, as the format has it.
            at = datetime.fromtimestamp(created_unix_s, timezone.utc)
            suite.set("timestamp", at.strftime("%Y-%m-%dT%H:%M:%S"))
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _verdict(verdict: Verdict) -> Case:
    said = f"exit code {verdict.exit_code}: {verdict.headline}"
    return Case("the verdict is exit code 0", FAILURE if verdict.exit_code else "", said, said)


def _trials(results: Results, verdict: Verdict) -> Iterator[Case]:
    for trial in results.trials:
        done = "trained all its epochs" if trial.targetless else "reached its target"
        name = f"trial {trial.index} {done}"
        if trial.reached or trial.targetless:
            yield Case(name, time_s=trial.time_on_clock_s or 0.0)
            continue
        said = _missed(trial)
        counts = not trial.finished or not verdict.reached
        reason = said if counts else f"target not reached; {verdict.headline.lower()}"
        outcome = FAILURE if counts else SKIPPED
        yield Case(name, outcome, reason, said, trial.time_on_clock_s or 0.0)


def _plausible(results: Results) -> Iterator[Case]:
    """Whether it converged as public runs did, where there are such."""
    found = convergence(results)
    if found.p is not None:
        said = f"p = {found.p:.2g}: a finding, which does not change the exit code"
        name = "the epochs to the target are not implausibly few"
        yield Case(name, SKIPPED, said, said) if found.implausible else Case(name)


def _missed(trial: Trial) -> str:
    """Why a trial reached no target: by its status, or by its log where there is nothing else."""
    status, log = trial.status, trial.log
    if status.state is None and log is not None and log.time_s is not None:
        return f"not converged: best {shown(log.best)} of {shown(log.target)} in {log.file}"
    return f"{shown(status.state)}: {status.message or 'see its stdout.log'}"


def _level(results: Results, level: str) -> Iterator[Case]:
    """The rules that this level adds to those below it."""
    settings = {group.finding.rule: group.settings for group in grouped(results)}
    found: dict[str, list[str]] = {r.rule: [] for r in results.rules if r.level == level}
    for name, finding in _findings(results.trials, results.set_findings):
        if finding.level == level:
            found.setdefault(finding.rule, []).append(_sentence(name, finding))
    for rule, says in found.items():
        if not says:
            yield Case(rule)
        elif level == LEVELS[-1] and not rule.startswith(CLOCK_RULES):
            yield Case(rule, SKIPPED, _reason(settings.get(rule, ()), says[0]), "\n".join(says))
        else:
            yield Case(rule, FAILURE, says[0], "\n".join(says))


def _records(results: Results) -> Iterator[Case]:
    """Whether the files of the run fit together."""
    for rule, _ in integrity.RULES:
        says = [
            f"{c.file}: found {c.found}; wanted {c.wanted}"
            for c in results.contradictions
            if c.rule == rule
        ]
        yield Case(rule, FAILURE, says[0], "\n".join(says)) if says else Case(rule)


def _findings(
    trials: Iterable[Trial], of_set: Iterable[LogFinding]
) -> Iterator[tuple[str, LogFinding]]:
    for log in (trial.log for trial in trials if trial.log):
        yield from ((log.file, finding) for finding in log.findings)
    yield from (("all logs", finding) for finding in of_set)


def _reason(settings: Sequence[str], said: str) -> str:
    if settings:
        return f"by the preset's own settings ({', '.join(settings)}): {said}"
    return f"strict rules do not change the exit code: {said}"


def _suite(root: ET.Element, prefix: str, name: str, cases: Sequence[Case]) -> ET.Element:
    suite = ET.SubElement(root, "testsuite", name=visible(name))
    _count(suite, cases)
    for case in cases:
        element = ET.SubElement(
            suite,
            "testcase",
            classname=visible(f"{prefix}.{name}"),
            name=visible(case.name),
            time=f"{case.time_s:.3f}",
        )
        if case.outcome:
            outcome = ET.SubElement(element, case.outcome, message=visible(case.message))
            outcome.text = visible(case.detail)
    return suite


def _count(element: ET.Element, cases: Sequence[Case]) -> None:
    element.set("tests", str(len(cases)))
    element.set("failures", str(sum(case.outcome == FAILURE for case in cases)))
    element.set("errors", "0")
    element.set("skipped", str(sum(case.outcome == SKIPPED for case in cases)))
    element.set("time", f"{sum(case.time_s for case in cases):.3f}")


def _sentence(file: str, finding: LogFinding) -> str:
    place = f"{file}:{finding.line_number}" if finding.line_number else file
    return f"{place}: found {finding.found}; wanted {finding.wanted}"
