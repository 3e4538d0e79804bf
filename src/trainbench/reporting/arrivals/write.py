"""Writes the review: one page, its Markdown twin, and the same for machines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from trainbench import files
from trainbench.compliance.statistic import UNVERIFIED
from trainbench.display.visible import visible
from trainbench.reporting.arrivals import plots, tables
from trainbench.reporting.arrivals.logs import V05, ArrivedLog
from trainbench.reporting.arrivals.review import (
    Review,
    Verdict,
    collect,
    judge,
    log_record,
    set_record,
    side_by_side,
)
from trainbench.reporting.arrivals.sets import LogSet
from trainbench.reporting.junit import FAILURE, SKIPPED, Case, suites_text
from trainbench.reporting.page import published
from trainbench.reporting.page.drawing import Figure
from trainbench.reporting.page.published import Part, cut_label
from trainbench.reporting.page.render import collecting_later, csv_text, environment, style
from trainbench.reporting.page.tables import Table
from trainbench.reporting.records import SCHEMA_VERSION
from trainbench.reporting.sections import Answer
from trainbench.reporting.summary import statistic_sentences
from trainbench.reporting.text import plural

REGENERATE = "python -m trainbench report PATH... --out DIR"
MOST_DRAWN = 4
"""Sets whose own figures are drawn; beyond, the charts of the benchmark have to do."""
KIND = "logs"


@dataclass(frozen=True)
class ReviewFiles:
    """The files that ``write_review`` wrote, and the exit code that the logs deserve."""

    exit_code: int
    headline: str
    html: Path
    markdown: Path
    results_json: Path
    results_csv: Path
    epochs_csv: Path
    junit: Path


@collecting_later()
def write_review(paths: Sequence[Path], out: Path) -> ReviewFiles:
    """Writes the review of what is in ``paths`` into ``out``.

    Raises:
        DataIntegrityError: there is no log.
    """
    review = collect(paths, out.resolve())
    verdict = judge(review)
    out.mkdir(parents=True, exist_ok=True)
    texts = {
        out / "report.html": html(review, verdict),
        out / "report.md": markdown(review, verdict),
        out / "results.json": results_json(review, verdict),
        out / "results.csv": results_csv(review),
        out / "epochs.csv": epochs_csv(review),
        out / "junit.xml": junit(review, verdict),
    }
    for path, content in texts.items():
        files.write_atomically(path, content)
    return ReviewFiles(verdict.exit_code, verdict.headline, *texts)


@dataclass(frozen=True)
class _Set:
    name: str
    logs: int
    sentences: tuple[str, ...]
    good: tuple[Part, ...]


@dataclass(frozen=True)
class _Benchmark:
    name: str
    table: Table
    figures: tuple[Figure, ...]
    sets: tuple[_Set, ...]


def html(review: Review, verdict: Verdict) -> str:
    """The page, complete in itself."""
    page = environment(escape=True, further=__package__).get_template("logs.html.j2")
    return page.render(_context(review, verdict, drawn=True), style=style())


def markdown(review: Review, verdict: Verdict) -> str:
    """The page's Markdown twin, without drawings."""
    page = environment(escape=False, further=__package__).get_template("logs.md.j2")
    return page.render(_context(review, verdict, drawn=False))


def _context(review: Review, verdict: Verdict, *, drawn: bool) -> dict[str, Any]:
    return {
        "review": review,
        "verdict": verdict,
        "tone": {0: "good", 4: "warn"}.get(verdict.exit_code, "bad"),
        "said_first": _answers(review, verdict),
        "unverified": UNVERIFIED,
        "unread": tables.unread(review),
        "duplicates": tables.duplicates(review),
        "logs": tables.logs(review),
        "benchmarks": [
            _Benchmark(
                name=name,
                table=tables.beside(side_by_side(review, name)),
                figures=tuple(plots.figures(review, name, str(number))) if drawn else (),
                sets=tuple(_sets(review, name, str(number), drawn=drawn)),
            )
            for number, name in enumerate(review.benchmarks)
        ],
        "open": len(review.sets) <= MOST_DRAWN,
        "findings": tables.findings(review),
        "sources": tables.sources(review),
        "regenerate": REGENERATE,
    }


def _sets(review: Review, benchmark: str, place: str, *, drawn: bool) -> list[_Set]:
    own = drawn and len(review.sets) <= MOST_DRAWN
    return [
        _Set(
            name=cut_label(found.name),
            logs=len(found.logs),
            sentences=statistic_sentences(found.results),
            good=published.parts(found.results, found.name, f"-{place}-{number}", drawn=own),
        )
        for number, found in enumerate(review.of(benchmark))
    ]


def _answers(review: Review, verdict: Verdict) -> list[Answer]:
    sets = f"{plural(verdict.sets, 'set')} of runs of {plural(len(review.benchmarks), 'benchmark')}"
    missed = verdict.logs - verdict.converged
    answers = [
        Answer("Read", plural(verdict.logs, "log"), sets),
        Answer(
            "Target reached",
            f"by {verdict.converged} of {verdict.logs}",
            _by_what(review),
            "warn" if missed else "good",
        ),
        _level_2(verdict),
    ]
    if verdict.unread:
        answers.append(Answer("Damaged or not readable", plural(verdict.unread, "file"), "", "bad"))
    if verdict.duplicates:
        answers.append(Answer("Twice", plural(verdict.duplicates, "log"), "", "warn"))
    fast = [found for found in review.sets if set_record(found).convergence.implausible]
    if fast:
        names = ", ".join(found.name for found in fast)
        answers.append(Answer("Implausibly fast", plural(len(fast), "set"), names, "warn"))
    return answers


def _level_2(verdict: Verdict) -> Answer:
    asked = "Level 2 of the v0.5 checkers"
    if not verdict.judged:
        return Answer(asked, "not judged", "they have no rules for these logs")
    tone = "good" if verdict.compliant == verdict.judged else "bad"
    said = f"passed by {verdict.compliant} of {verdict.judged}"
    return Answer(asked, said, "by both published versions", tone)


def _by_what(review: Review) -> str:
    later = [found for found in review.sets if found.round != V05]
    if not later:
        return "by the quality that the logs have, whatever they claim"
    claim = "logs of later rounds by what they claim"
    return claim if len(later) == len(review.sets) else f"by the quality in the logs; {claim}"


def results_json(review: Review, verdict: Verdict) -> str:
    """results.json, as logs.schema.json describes it."""
    record = {
        "schema_version": SCHEMA_VERSION,
        "kind": KIND,
        "note": UNVERIFIED,
        "verdict": verdict,
        "logs": [
            log_record(found, log, index)
            for found in review.sets
            for index, log in enumerate(found.logs)
        ],
        "sets": [set_record(found) for found in review.sets],
        "comparison": [side_by_side(review, name) for name in review.benchmarks],
        "duplicates": review.duplicates,
        "unread": review.unread,
        "others": review.others,
    }
    return json.dumps(record, default=asdict, indent=2, sort_keys=True, allow_nan=False) + "\n"


def results_csv(review: Review) -> str:
    """One row per log."""
    rows = []
    for found in review.sets:
        for index, log in enumerate(found.logs):
            record = log_record(found, log, index)
            names = ("file", "set", "benchmark", "round", "converged", "success", "time_s", "best")
            more = ("target", "evaluations", "epoch_of_target", "seed", "damage", "sha256")
            values = {name: getattr(record, name) for name in (*names, *more)}
            facts = {name: fact.value for name, fact in record.facts.items()}
            values |= {name: facts.get(name) for name in _FACTS}
            values |= {f"level_{c}": record.levels.get(c) for c in ("2018-11", "2019-04")}
            rows.append({**values, "strict_findings": record.strict_findings})
    return csv_text(rows)


_FACTS = (
    *("batch_size", "learning_rate", "optimizer", "precision", "cache_drop"),
    *("train_epoch_s", "evaluation_s"),
)


def epochs_csv(review: Review) -> str:
    """One row per evaluation of every log."""
    return csv_text(
        [
            {"file": log.file, "set": found.name, **asdict(epoch)}
            for found in review.sets
            for log in found.logs
            for epoch in log.epochs
        ]
    )


def junit(review: Review, verdict: Verdict) -> str:
    """A suite per set with a case per log; a case fails where it is a reason for the exit code."""
    said = f"exit code {verdict.exit_code}: {verdict.headline}"
    first = Case("the verdict is exit code 0", FAILURE if verdict.exit_code else "", said, said)
    whole = [
        Case(f"{item.file} is read", FAILURE, item.reason, item.reason)
        for item in review.unread
        if not item.ignored
    ]
    suites = {"logs": [first, *whole]}
    for found in review.sets:
        suites[f"{found.benchmark} {found.name}"] = _cases(found)
    return suites_text(f"trainbench {KIND}", "logs", suites)


def _cases(found: LogSet) -> list[Case]:
    cases = []
    reached = any(trial.reached for trial in found.results.trials)
    for log in found.logs:
        broken = log.check.of_level("2")
        name, rules = visible(log.file), "\n".join(f.rule for f in broken)
        cases.append(Case(f"{name} passes level 2", FAILURE if broken else "", rules[:200], rules))
        missed = "" if log.check.converged else (SKIPPED if reached else FAILURE)
        said = "" if log.check.converged else _missed(log)
        cases.append(
            Case(f"{name} reaches its target", missed, said, said, log.check.time_s or 0.0)
        )
    return cases


def _missed(log: ArrivedLog) -> str:
    if log.check.time_s is None or log.damage:
        return log.damage or "no single run_start and run_stop"
    return f"best {tables.shown_number(log.check.best)} of {tables.shown_number(log.check.target)}"
