"""A v0.5 ResNet log as the rules from 0.7 on want it; ResNet left the suite after 4.0.

v0.5 has one clock, from before the model is built to the last evaluation, and so has the result:
``init_stop`` and ``run_start`` are the same moment. A block is what is trained between two
evaluations. Lines without a later name keep their own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from trainbench.compliance.event import Event
from trainbench.compliance.tags import ncf as tags
from trainbench.compliance.tags import resnet as resnet_tags


@dataclass(frozen=True)
class Submission:
    """What a log says of its submission; systems that are not for sale have the status research."""

    org: str = "trainbench"
    platform: str = "unnamed"
    division: str = "open"
    status: str = "research"


RESEARCH = Submission()


@dataclass(frozen=True)
class Entry:
    """One line of the later dialect: an event under its key, with metadata; ``kind`` is its type.

    ``at`` is the v0.5 event whose time and call site it has.
    """

    key: str
    value: Any
    at: Event
    metadata: tuple[tuple[str, Any], ...] = ()
    kind: str = "event"


# v0.5 tag -> later key, of what the later rules want exactly once.
ONCE = {
    tags.INPUT_BATCH_SIZE: "global_batch_size",
    tags.OPT_NAME: "opt_name",
    tags.RUN_CLEAR_CACHES: "cache_clear",
    resnet_tags.INPUT_BN_SPAN: "model_bn_span",
    resnet_tags.PREPROC_NUM_EVAL_EXAMPLES: "eval_samples",
    resnet_tags.PREPROC_NUM_TRAIN_EXAMPLES: "train_samples",
    resnet_tags.RUN_SET_RANDOM_SEED: "seed",
    tags.SEED: "seed",
}
_OPTIMIZERS = {resnet_tags.MOMENTUM: "sgd", resnet_tags.SGD: "sgd", resnet_tags.LARS: "lars"}
# These lines are logged after the run, so no training lies between them.
_LEFT_OUT = (tags.TRAIN_EPOCH,)


def entries(events: Sequence[Event], submission: Submission = RESEARCH) -> list[Entry]:
    """The lines of the later dialect, in order."""
    if not events:
        return []
    return [*_submitted(events[0], submission), *_translated(events)]


def _submitted(first: Event, submission: Submission) -> Iterator[Entry]:
    yield Entry("submission_benchmark", resnet_tags.BENCHMARK, first)
    yield Entry("submission_org", submission.org, first)
    yield Entry("submission_division", submission.division, first)
    yield Entry("submission_status", submission.status, first)
    yield Entry("submission_platform", submission.platform, first)


def _translated(events: Sequence[Event]) -> Iterator[Entry]:
    written: set[str] = set()
    blocks = _Blocks([e.epoch for e in events if e.key == tags.EVAL_ACCURACY])
    for event in events:
        if event.key in ONCE:
            key = ONCE[event.key]
            if key not in written:
                written.add(key)
                yield Entry(key, _once(event), event)
                if key == "global_batch_size":
                    yield Entry("gradient_accumulation_steps", 1, event)
        elif event.key == tags.RUN_START:
            yield Entry("init_start", None, event, kind="start")
            yield Entry("init_stop", None, event, kind="end")
            yield Entry(tags.RUN_START, None, event, kind="start")
        elif event.key == tags.RUN_STOP:
            yield Entry(tags.RUN_STOP, None, event, _status(event), "end")
        elif event.key in _Blocks.TAGS:
            yield from blocks.entries(event)
        elif event.key not in _LEFT_OUT:
            yield Entry(event.key, event.value, event)


class _Blocks:
    """Evaluations and the blocks of training between them; ``epochs`` of every evaluation."""

    TAGS = (tags.TRAIN_LOOP, tags.EVAL_START, tags.EVAL_STOP, tags.EVAL_ACCURACY)

    def __init__(self, epochs: Sequence[Any]) -> None:
        self._epochs = list(epochs)
        self._done = 0
        self._first = 0
        self._open = False

    def entries(self, event: Event) -> Iterator[Entry]:
        epoch = (("epoch_num", self._epoch),)
        if event.key == tags.TRAIN_LOOP:
            yield self._start(event)
        elif event.key == tags.EVAL_START:
            if not self._open:
                yield self._start(event)
            self._open = False
            yield Entry(
                "block_stop", None, event, (("first_epoch_num", self._first), *epoch), "end"
            )
            yield Entry(event.key, None, event, epoch, "start")
        elif event.key == tags.EVAL_STOP:
            yield Entry(event.key, None, event, epoch, "end")
        else:
            yield Entry(event.key, event.scalar, event, epoch)
            self._first, self._done = self._epoch, self._done + 1
            if self._done < len(self._epochs):
                yield self._start(event)

    @property
    def _epoch(self) -> int:
        """The epoch of the current evaluation, or of the next one."""
        known = self._epochs[min(self._done, len(self._epochs) - 1) :]
        return int(known[0]) if known else 0

    def _start(self, event: Event) -> Entry:
        self._open = True
        count = max(self._epoch - self._first, 1)
        metadata = (("first_epoch_num", self._first), ("epoch_count", count))
        return Entry("block_start", None, event, metadata, "start")


def _once(event: Event) -> Any:
    if event.key == tags.OPT_NAME:
        return _OPTIMIZERS.get(event.value, event.value)
    return True if event.key == tags.RUN_CLEAR_CACHES else event.value


def _status(event: Event) -> tuple[tuple[str, Any], ...]:
    success = isinstance(event.value, dict) and event.value.get("success")
    return (("status", "success" if success else "aborted"),)
