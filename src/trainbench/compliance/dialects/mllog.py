"""The modern dialect: ``:::MLLOG {...}`` lines of MLPerf 0.7 and later, read and written.

No rule set of ``mlperf_logging`` knows NCF, which left the suite after v0.5. What has a modern name
is renamed (``TAGS``), everything else keeps its v0.5 name, so nothing is lost in either direction.
ResNet stayed until 4.0, and ``mllog_resnet`` gives its logs what those rules ask for.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Mapping
from decimal import Decimal
from importlib import import_module
from typing import Any

from trainbench.compliance.dialects import mllog_resnet
from trainbench.compliance.dialects.mllog_resnet import RESEARCH, Entry, Submission
from trainbench.compliance.event import Event, Finding, Line, unreadable
from trainbench.compliance.tags import ncf as tags
from trainbench.compliance.tags import resnet as resnet_tags
from trainbench.files import parse_json
from trainbench.machine import extras

TOKEN = ":::MLLOG "

# v0.5 tag -> key of mlperf_logging.mllog.constants.
TAGS = {
    tags.INPUT_BATCH_SIZE: "global_batch_size",
    tags.INPUT_SIZE: "train_samples",
    tags.EVAL_SIZE: "eval_samples",
    tags.OPT_LR: "opt_base_learning_rate",
    tags.OPT_HP_ADAM_BETA1: "opt_adam_beta_1",
    tags.OPT_HP_ADAM_BETA2: "opt_adam_beta_2",
    tags.OPT_HP_ADAM_EPSILON: "opt_adam_epsilon",
    tags.RUN_CLEAR_CACHES: "cache_clear",
    tags.TRAIN_EPOCH: "epoch_start",
}
_V05_TAGS = {modern: tag for tag, modern in TAGS.items()}
_MAX_TIME_MS = 10**15
_STARTS = frozenset({tags.RUN_START, tags.EVAL_START, tags.TRAIN_EPOCH})
_STOPS = frozenset({tags.RUN_STOP, tags.EVAL_STOP})
# Tags whose bare value is the epoch.
_EPOCH_VALUED = frozenset({tags.TRAIN_EPOCH, tags.EVAL_START, tags.EVAL_STOP})


def parse_line(text: str, number: int = 0) -> Event | Finding:
    """The event of a ``:::MLLOG`` line in the terms of v0.5, or the finding that it is not one."""
    try:
        entry = parse_json(text[text.index(TOKEN) + len(TOKEN) :].strip(), float)
        milliseconds, key, metadata = entry["time_ms"], entry["key"], dict(entry["metadata"] or {})
        if not isinstance(key, str) or not 0 <= milliseconds < _MAX_TIME_MS:
            return unreadable(text, number, "no key or no time", "text and milliseconds")
        timestamp = f"{Decimal(str(milliseconds)) / 1000:.9f}"
    except (ValueError, KeyError, TypeError, ArithmeticError) as error:
        found = f"no MLLOG entry ({type(error).__name__}: {error})"
        return unreadable(text, number, found, "JSON with time_ms, key, value and metadata")
    return event(key, entry.get("value"), metadata, timestamp, Line(number, text))


def event(key: str, value: Any, metadata: Mapping[str, Any], timestamp: str, source: Line) -> Event:
    """What a line of a later dialect says, in the terms of v0.5."""
    tag = _V05_TAGS.get(key, key)
    return Event(
        key=tag,
        value=_v05_value(tag, value, metadata),
        timestamp=timestamp,
        file=str(metadata.get("file", "unknown")),
        line=metadata["lineno"] if isinstance(metadata.get("lineno"), int) else 0,
        source=source,
    )


def format_lines(events: Iterable[Event], submission: Submission = RESEARCH) -> list[str]:
    """The ``:::MLLOG`` lines of ``events``, by ``mlperf_logging``; times to the millisecond.

    ``submission`` is written into a ResNet log; no rules ask for it in a log of NCF.

    Raises:
        MachineError: ``mlperf-logging`` is not installed.
    """
    extras.require("mlperf_logging")
    mllog = import_module("mlperf_logging.mllog.mllog")
    out = io.StringIO()
    handler = logging.StreamHandler(out)
    # The writer warns that it overrides its own call site by the event's, which is what we want.
    handler.addFilter(lambda record: record.levelno == logging.INFO)
    logger = logging.Logger("trainbench.mllog", logging.INFO)
    logger.addHandler(handler)
    writer = mllog.MLLogger(logger=logger)
    for entry in _entries(list(events), submission):
        _write(writer, entry)
    return out.getvalue().splitlines()


def _entries(events: list[Event], submission: Submission) -> list[Entry]:
    if events and events[0].benchmark == resnet_tags.BENCHMARK:
        return mllog_resnet.entries(events, submission)
    return [_entry(event) for event in events]


def _entry(event: Event) -> Entry:
    value, metadata = _modern_value(event)
    kind = "start" if event.key in _STARTS else "end" if event.key in _STOPS else "event"
    key = TAGS.get(event.key, event.key)
    return Entry(key, value, event, tuple(metadata.items()), kind)


def _write(writer: Any, entry: Entry) -> None:
    # start, end and event are the writer's own methods.
    getattr(writer, entry.kind)(
        entry.key,
        value=entry.value,
        metadata={"file": entry.at.file, "lineno": entry.at.line, **dict(entry.metadata)},
        time_ms=int(entry.at.time * 1000),
    )


def _modern_value(event: Event) -> tuple[Any, dict[str, Any]]:
    """Value and metadata: the epoch and the outcome stand in the metadata since 0.6."""
    value = event.value
    if event.key == tags.RUN_STOP and isinstance(value, dict) and "success" in value:
        return None, {"status": "success" if value["success"] else "aborted"}
    if event.key in _EPOCH_VALUED and isinstance(value, int):
        return None, {"epoch_num": value}
    if isinstance(value, dict) and set(value) == {"epoch", "value"}:
        return value["value"], {"epoch_num": value["epoch"]}
    return value, {}


def _v05_value(tag: str, value: Any, metadata: Mapping[str, Any]) -> Any:
    epoch = metadata.get("epoch_num")
    if tag == tags.RUN_STOP and "status" in metadata:
        return {"success": metadata["status"] == "success"}
    if tag in _EPOCH_VALUED:
        return value if epoch is None else epoch
    return value if epoch is None else {"epoch": epoch, "value": value}
