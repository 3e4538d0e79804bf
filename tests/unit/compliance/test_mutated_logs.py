"""Damaged logs get the verdicts of both published checkers, at both levels."""

from __future__ import annotations

import json
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from log_mutations import mutated
from plain_checkers import CHECKERS, REQUIRED, verdict
from v05_log import lines, run

from trainbench.compliance.check import check
from trainbench.compliance.event import Event, Finding, Line
from trainbench.compliance.parse import read_lines
from trainbench.compliance.rules.levels import ruleset

SEEDS = 600


def ours(log: list[Line | Finding], checker: str) -> dict[int, bool]:
    """Whether a log passes levels 1 and 2; level 2 has the findings of level 1 first."""
    found = [finding.rule for finding in check(log, ruleset(2, checker=checker))]
    return {2: not found, 1: all(rule.startswith("level2/") for rule in found)}


def complete(benchmark: str) -> list[str]:
    """A log with every tag that level 2 asks of a benchmark."""
    events = [replace(event, benchmark=benchmark) for event in run(hits=(79_629, 88_071))]
    have = {event.key for event in events}
    start = next(i for i, event in enumerate(events) if event.key == "run_start")
    more = [
        Event(tag, 1, events[start].timestamp, "a.py", i, benchmark)
        for i, tag in enumerate(REQUIRED[benchmark])
        if tag not in have
    ]
    return lines([*events[: start + 1], *more, *events[start + 1 :]])


@pytest.mark.parametrize("checker", CHECKERS)
@pytest.mark.parametrize("benchmark", REQUIRED)
def test_a_log_with_the_list_of_its_benchmark_passes_and_each_tag_is_needed(
    benchmark: str, checker: str
) -> None:
    log = complete(benchmark)
    assert check(log, ruleset(2, checker=checker)) == []
    for tag in REQUIRED[benchmark]:
        short = [line for line in log if f") {tag}:" not in line and f") {tag}\n" not in line]
        wanted = f"level2/at-least-one/{tag}"
        assert wanted in [f.rule for f in check(short, ruleset(2, checker=checker))]


@pytest.mark.parametrize("part", range(10))
def test_a_generated_mutant_has_the_verdicts_of_both_checkers(part: int, tmp_path: Path) -> None:
    path = tmp_path / "log"
    names = list(REQUIRED)
    for seed in range(part, SEEDS, 10):
        changed, content = mutated(complete(names[seed % len(names)]), seed)
        path.write_bytes(content)
        log = list(read_lines(path))
        for checker in CHECKERS:
            told = ours(log, checker)
            for level in (1, 2):
                # Where the checker itself ends with an error, we have a finding.
                expected = verdict(path, checker, level) is True
                assert told[level] == expected, (seed, changed, checker, level)


def test_generated_mutants_are_of_every_kind(tmp_path: Path) -> None:
    path = tmp_path / "log"
    seen = set()
    for seed in range(60):
        path.write_bytes(mutated(complete("ncf"), seed)[1])
        seen |= {(checker, verdict(path, checker, 2)) for checker in CHECKERS}
    assert seen == {(checker, what) for checker in CHECKERS for what in (True, False, "crash")}


@pytest.fixture(scope="module")
def mutants(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the 348 public logs that were damaged and judged by both checkers."""
    packed = shared_dir / "fixtures" / "mutants" / "mutants.tar.xz"
    if not packed.is_file():
        pytest.skip(f"damaged public logs not found at {packed}")
    folder = tmp_path_factory.mktemp("mutants")
    with tarfile.open(packed) as archive:
        archive.extractall(folder, filter="data")
    return folder


def test_every_mutant_of_a_public_log_has_the_verdicts_of_both_checkers(
    mutants: Path, shared_dir: Path
) -> None:
    expected: dict[str, Any] = json.loads(
        (shared_dir / "fixtures" / "mutants" / "expected.json").read_text()
    )
    assert len(expected) == 348
    wrong = []
    for name, verdicts in expected.items():
        log = list(read_lines(mutants / name))
        for checker in CHECKERS:
            told = ours(log, checker)
            wanted = {level: verdicts[checker][str(level)] is True for level in (1, 2)}
            wrong += [(name, checker, level) for level in (1, 2) if told[level] != wanted[level]]
    assert wrong == []


def test_the_plain_checkers_say_what_the_real_ones_said(mutants: Path, shared_dir: Path) -> None:
    """A sample: what the generated mutants are compared with is itself right."""
    expected = json.loads((shared_dir / "fixtures" / "mutants" / "expected.json").read_text())
    for name, verdicts in list(expected.items())[::12]:
        for checker in CHECKERS:
            told = {str(level): verdict(mutants / name, checker, level) for level in (1, 2)}
            assert told == verdicts[checker], (name, checker)
