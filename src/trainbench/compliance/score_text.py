"""A score as ``trainbench score`` prints it: for people, or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict

from trainbench.benchmark import registered
from trainbench.compliance.statistic import (
    UNVERIFIED,
    Reference,
    RunScore,
    Score,
    listed,
    plural,
    run_rule,
)
from trainbench.compliance.submission.verifier import INFINITE_TIME_S, Printed
from trainbench.display.visible import one_line


def to_json(result: Score, *, reference: Reference | None = None) -> str:
    """The text of ``score --json``, the same for the same logs."""
    content = {
        "schema": 1,
        **asdict(result),
        "convergence_rate": result.convergence_rate,
        "statement": UNVERIFIED,
    }
    if reference is not None:
        content["comparison"] = {
            "denominator": asdict(reference),
            "reference_over_result": result.speed_up(reference),
        }
    return json.dumps(content, indent=2) + "\n"


def to_text(result: Score, *, reference: Reference | None = None) -> str:
    """What ``score`` prints."""
    lines = [
        f"{one_line(str(result.folder))}: {len(result.runs)} runs, {result.converged} converged "
        f"({100 * result.convergence_rate:.0f} %), first by {result.order}"
    ]
    lines += [f"NOTE {one_line(note)}" for note in result.notes]
    lines += map(one_line, _left_out(result.runs))
    if result.mean_s is not None:
        lines += _statistic_lines(result)
    elif not result.converged:
        lines.append("no run converged: there is no time to train")
    lines += [_verifier_line(result.verifier)] if result.verifier else []
    if reference is not None and result.mean_s is not None:
        lines.append(
            f"{reference.time_s:.0f} s / {result.mean_s:.2f} s = {result.speed_up(reference):.2f} "
            f"(denominator: {reference.name})"
        )
    return "\n".join([*lines, UNVERIFIED]) + "\n"


def _left_out(runs: Sequence[RunScore]) -> Iterable[str]:
    """The files that do not count, by reason."""
    by_reason: dict[str, list[str]] = {}
    for run in runs:
        if run.reason:
            by_reason.setdefault(run.reason, []).append(run.file)
    for reason, files in by_reason.items():
        yield f"{listed(files)}: not counted: {reason}"


def _verifier_line(found: Printed) -> str:
    tool = "v0.5 result verifier"
    if found.time_s is None:
        return f"{tool}: no time ({found.reason})"
    infinite = ""
    if found.infinite:
        runs = plural(found.infinite, "run")
        infinite = f"; {runs} that did not converge with {INFINITE_TIME_S:,.2f} s each"
    return f"{tool}: {found.time_s:,.2f} s ({found.division} division{infinite})"


def _statistic_lines(result: Score) -> list[str]:
    kept = len(result.counted) - len(result.dropped)
    if result.rules != "v0.5":
        runs = f"mean of {plural(kept, 'run')}; dropped runs {listed(result.dropped) or 'none'}"
        minutes = (result.mean_s or 0.0) / 60
        lines = [f"{result.rules} score: {result.mean_s:.2f} s = {minutes:.3f} min, {runs}"]
    elif result.official:
        first = f"v0.5 statistic: {result.mean_s:.2f} s, mean of {plural(kept, 'run')}; dropped "
        lines = [first + f"the fastest and the slowest, runs {listed(result.dropped)}"]
    else:
        lines = [f"time to train: {result.mean_s:.2f} s, mean of all {kept} converged runs"]
    lines.append(f"counted runs: {', '.join(str(index) for index in result.counted)}")
    spread = f"{result.shortest_s:.2f} to {result.longest_s:.2f} s, median {result.median_s:.2f} s"
    if result.standard_deviation_s is not None and result.mean_s:
        share = 100 * result.standard_deviation_s / result.mean_s
        spread += f"; sd of the averaged {result.standard_deviation_s:.2f} s ({share:.1f} %)"
    lines.append(f"spread: {spread}")
    own = registered().get(result.benchmark)
    every = own.quality.every if own else "evaluation"
    if result.epochs:
        lines.append(
            f"{every}s to target: {min(result.epochs)} to {max(result.epochs)}, "
            f"mean {sum(result.epochs) / len(result.epochs):.2f}"
        )
    if result.interval is not None:
        rule = run_rule(result.benchmark)
        hits = rule.counted if rule else 0
        lines.append(
            f"95 % bootstrap: {result.interval.low:.2f} to {result.interval.high:.2f} s; "
            f"{hits} hits in {100 * result.interval.complete:.0f} % of the samples"
        )
    return lines
