"""What the gate found: for a terminal, a pull request, a script, and github-action-benchmark."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from statistics import fmean, geometric_mean
from typing import Any

from trainbench.history.gate import Comparison, Judged
from trainbench.history.measured import Measured, describe
from trainbench.history.reading import quantities_of
from trainbench.reporting.text import fixed, plural
from trainbench.statistics import Interval, geometric_interval

SCHEMA = 2
MARKER = "<!-- trainbench compare -->"
"""First line of the Markdown: by it a CI finds the comment that it wrote before."""
MOST_SETTINGS = 30


def to_json(found: Comparison) -> str:
    """Everything as JSON. Of the first quantity, the fields of schema 1 stand at the top too."""
    record: dict[str, Any] = {
        "schema": SCHEMA,
        "names": found.names,
        "verdict": found.verdict,
        "worse": found.worse,
        "slower": any(one.worse and one.quantity.unit for one in found.judged),
        "target": found.target or None,
        "target_missed": found.target_missed,
        "confidence": found.confidence,
        "threshold_percent": found.threshold_percent,
        "machines": [found.baseline.fingerprint, found.other.fingerprint],
        "quantities": [_record(one) for one in found.judged],
        "settings": [list(row) for row in found.settings],
        "cautions": found.cautions,
    }
    for one in found.judged[:1]:
        record |= {"samples": one.samples, "speeds": [asdict(one.before), asdict(one.after)]}
        record["change"] = asdict(one.change) if one.change else None
    return json.dumps(record, indent=1, allow_nan=False) + "\n"


def _record(one: Judged) -> dict[str, Any]:
    return {
        "quantity": one.quantity.key,
        "unit": one.quantity.unit or None,
        "smaller_is_better": one.quantity.smaller_is_better,
        "samples": one.samples,
        "before": asdict(one.before),
        "after": asdict(one.after),
        "percent": one.percent,
        "change": asdict(one.change) if one.change else None,
        "worse": one.worse,
        "verdict": one.verdict,
        "untested": one.untested or None,
    }


def to_text(found: Comparison) -> str:
    """The comparison for a reader at a terminal."""
    parts: list[str] = []
    for one in found.judged:
        parts += [*_lines(found, one), ""]
    parts += [found.target] if found.target else []
    parts.append(f"verdict: {found.verdict}")
    if found.settings:
        rows = [("setting", *found.names), *found.settings]
        parts += ["", *aligned(rows)]
    parts += [f"caution: {caution}" for caution in found.cautions]
    return "\n".join(parts) + "\n"


def _lines(found: Comparison, one: Judged) -> Iterator[str]:
    level, quantity = f"{100 * found.confidence:g} % interval", one.quantity
    unit = f" ({quantity.unit})" if quantity.unit else ""
    sides = one.before, one.after
    yield from aligned(
        [
            ("", *found.names),
            (f"{quantity.label}{unit}, geometric mean", *(_fixed(one, s.mean) for s in sides)),
            (level, *(_span(one, side) for side in sides)),
            ("samples", *(f"{side.samples} {one.samples}" for side in sides)),
        ]
    )
    tested = one.change
    if tested is None:
        yield f"change: {one.percent:+.2f} %; {one.untested}"
    else:
        effect = "" if tested.hedges_g is None else f", Hedges' g {tested.hedges_g:.2f}"
        span = f"{level} {tested.low:+.2f} % to {tested.high:+.2f} %"
        yield f"change: {tested.percent:+.2f} % ({span})"
        yield f"Welch's t on logarithms: p = {tested.p_value:.3g}{effect}"
        yield f"worse by more than {found.threshold_percent:g} %: p = {tested.p_slowdown:.3g}"
    if len(found.judged) > 1:
        yield f"{quantity.label}: {one.verdict}"


def _fixed(one: Judged, value: float) -> str:
    return fixed(value, max(2, one.quantity.digits))


def _span(one: Judged, side: Interval) -> str:
    if side.low is None or side.high is None:
        return "n/a"
    return f"{_fixed(one, side.low)} to {_fixed(one, side.high)}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """``rows`` in columns of equal width."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def to_markdown(found: Comparison) -> str:
    """The comparison as a comment of a pull request."""
    from trainbench.reporting.page.render import markdown_cell as cell

    word = "Worse than the baseline" if found.worse else "Not worse than the baseline"
    lines = [MARKER, f"### {cell(found.other.title)}: {word.lower()}", ""]
    lines += [f"**{cell(found.verdict)}**", ""]
    if found.judged:
        lines += ["| | baseline | this | change | interval | samples | |", _rule(4)]
        lines += [_row(found, one) for one in found.judged]
        lines += [""]
    lines += [cell(found.target), ""] if found.target else []
    lines += [f"- {cell(caution)}" for caution in found.cautions]
    lines += [""] if found.cautions else []
    if found.settings:
        lines += ["<details><summary>What differs between the two</summary>", ""]
        lines += ["| setting | baseline | this |", "| --- | --- | --- |"]
        lines += [
            "| " + " | ".join(map(cell, row)) + " |" for row in found.settings[:MOST_SETTINGS]
        ]
        if len(found.settings) > MOST_SETTINGS:
            lines.append(f"| and {len(found.settings) - MOST_SETTINGS} more | | |")
        lines += ["", "</details>", ""]
    lines += [_footer(found), ""]
    return "\n".join(lines)


def _rule(right: int) -> str:
    return "| --- |" + " ---: |" * right + " --- | --- |"


def _row(found: Comparison, one: Judged) -> str:
    quantity, tested = one.quantity, one.change
    unit = f" ({quantity.unit})" if quantity.unit else ""
    span = f"{tested.low:+.2f} % to {tested.high:+.2f} %" if tested else "not tested"
    numbers = f"{one.before.samples} and {one.after.samples} {one.samples}"
    verdict = f"**{one.verdict}**" if one.worse else one.verdict
    values = [_fixed(one, side.mean) for side in (one.before, one.after)]
    cells = [f"{quantity.label}{unit}", *values, f"{one.percent:+.2f} %", span, numbers, verdict]
    return "| " + " | ".join(cells) + " |"


def _footer(found: Comparison) -> str:
    from trainbench.reporting.page.render import markdown_cell as cell

    machine = cell(describe(found.other.machine))
    return (
        f"Threshold {found.threshold_percent:g} %, confidence {100 * found.confidence:g} %, "
        f"Welch's t on logarithms. Machine {found.other.fingerprint}: {machine}."
    )


def without_baseline(other: Measured) -> str:
    """The comment where nothing is there to compare with."""
    from trainbench.reporting.page.render import markdown_cell as cell

    lines = [MARKER, f"### {cell(other.title)}: no baseline yet", ""]
    for quantity in quantities_of([other]):
        value = fixed(_mean(other.values[quantity.key]), max(2, quantity.digits))
        lines.append(f"- {quantity.label}: {value} {quantity.unit}".rstrip())
    lines += [f"- Target reached by {other.reached} of {plural(other.trials, 'trial')}"]
    return "\n".join([*lines, ""])


def action_benchmark(measured: Measured, *, smaller_is_better: bool) -> str:
    """What github-action-benchmark reads as customSmallerIsBetter or customBiggerIsBetter."""
    entries = []
    for quantity in quantities_of([measured]):
        if quantity.smaller_is_better != smaller_is_better:
            continue
        values = [value for value in measured.values[quantity.key] if value > 0]
        if not values:
            continue
        span = geometric_interval(values)
        entry: dict[str, Any] = {
            "name": f"{measured.title}: {quantity.label}",
            "unit": quantity.unit or "share",
            "value": span.mean,
            "extra": f"machine {measured.fingerprint}\ntask {measured.task_key}\n"
            f"revision {measured.revision or 'n/a'}\n{plural(len(values), 'sample')}",
        }
        if span.low is not None and span.high is not None:
            entry["range"] = f"± {(span.high - span.low) / 2:.4g}"
        entries.append(entry)
    return json.dumps(entries, indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def why_closed(found: Comparison) -> str:
    """Why the gate closed, in one line."""
    baseline = found.baseline.place
    told = []
    for one in found.judged:
        if not one.worse:
            continue
        amount = f"{abs(one.percent):.2f} % {'slower' if one.quantity.unit else 'lower'}"
        label = one.quantity.label
        at_most = f"for at most {found.threshold_percent:g} %"
        why = f" (p = {one.change.p_slowdown:.3g} {at_most})" if one.change else ""
        told.append(f"{label[0].lower()}{label[1:]}: {amount} than {baseline}{why}")
    return "; ".join([*told, *([found.target] if found.target_missed else [])])


def without_baseline_json(other: Measured) -> str:
    """What was measured, as JSON, where nothing is there to compare with."""
    record = {
        "schema": SCHEMA,
        "names": [None, other.name],
        "verdict": "no baseline",
        "worse": False,
        "machines": [None, other.fingerprint],
        "values": {key: list(values) for key, values in other.values.items()},
    }
    return json.dumps(record, indent=1, allow_nan=False) + "\n"


def _mean(values: Sequence[float]) -> float:
    return geometric_mean(values) if min(values) > 0 else fmean(values)
