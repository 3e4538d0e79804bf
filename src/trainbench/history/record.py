"""A history as JSON: what the page shows, for scripts."""

from __future__ import annotations

import json
from typing import Any

from trainbench.history import changes
from trainbench.history.measured import Measured
from trainbench.history.series import Change, History, Series, Trend

SCHEMA = 1


def history_json(found: History) -> str:
    """history.json: series by task and machine, each with its runs, values and changes."""
    record = {
        "schema": SCHEMA,
        "alpha": changes.ALPHA,
        "threshold_percent": found.threshold_percent,
        "alarms": len(found.alarms),
        "runs": len(found.runs),
        "copies": found.stored.copies,
        "series": [_series(series) for series in found.series],
        "unreadable": [
            {"path": path, "reason": reason} for path, reason in found.stored.unreadable
        ],
    }
    # A setting may be infinite, which JSON does not know.
    known = json.loads(json.dumps(record, default=str), parse_constant=str)
    return json.dumps(known, indent=1, allow_nan=False) + "\n"


def _series(series: Series) -> dict[str, Any]:
    first = series.first
    return {
        "key": series.key,
        "benchmark": first.benchmark,
        "title": series.title,
        "fingerprint": first.fingerprint,
        "task_key": first.task_key,
        "machine": dict(first.machine),
        "task": dict(first.task),
        "runs": [_run(run) for run in series.runs],
        "trends": [_trend(trend) for trend in series.trends],
    }


def _run(run: Measured) -> dict[str, Any]:
    return {
        "name": run.name,
        "created_unix_s": run.created_unix_s,
        "revision": run.revision,
        "uncommitted_changes": run.software.get("uncommitted changes"),
        "trials": run.trials,
        "ended": run.ended,
        "reached": run.reached,
        "left_out": run.left_out or None,
        "degraded": list(run.degraded),
        "note": run.note or None,
        "tags": list(run.tags),
        "values": {key: list(samples) for key, samples in run.values.items()},
    }


def _trend(trend: Trend) -> dict[str, Any]:
    return {
        "quantity": trend.quantity.key,
        "unit": trend.quantity.unit or None,
        "smaller_is_better": trend.quantity.smaller_is_better,
        "runs": [run.name for run in trend.runs],
        "values": list(trend.values),
        "too_short": trend.too_short,
        "newest_stands_out": trend.suspect,
        "changes": [_change(change) for change in trend.changes],
    }


def _change(change: Change) -> dict[str, Any]:
    step = change.step
    return {
        "number": change.number,
        "run": change.run.name,
        "previous": change.previous.name,
        "before": step.before,
        "after": step.after,
        "percent": step.percent,
        "worse_percent": change.worse_percent,
        "p_value": step.p_value,
        "gradual": step.gradual,
        "alarm": change.alarm,
        "no_alarm_because": change.because or None,
        "software": [
            {"name": name, "before": before, "since": since}
            for name, before, since in change.software
        ],
    }
