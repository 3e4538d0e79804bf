"""What a trial of any benchmark records beside its training: status, log, page cache, machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from trainbench.compliance.emit import emit, logging_to
from trainbench.compliance.tags import ncf as tags
from trainbench.files import write_json
from trainbench.machine import privileges
from trainbench.machine.page_cache import CacheDrop
from trainbench.progress import log_line
from trainbench.trials.clock import TrialClock
from trainbench.trials.spec import TrialSpec
from trainbench.trials.status import (
    Notes,
    applying,
    at_an_end,
    degraded_status,
    failed_status,
    write_status,
)

StatusT = TypeVar("StatusT", bound=Any)


class Recorder:
    """The records of one trial; ``status`` is the newest, a frozen dataclass of the benchmark's."""

    def __init__(self, spec: TrialSpec, status: Any) -> None:
        self.spec, self.status, self.trial = spec, status, spec.trial_dir
        self.clock = TrialClock(self.trial.phases)

    def record(self, work: Callable[[], StatusT], **log: Any) -> StatusT:
        """Do ``work`` with the trial's log open; status.json says how it ended.

        Args:
            work: gives the final status.
            log: the benchmark and the prefix of the log; see ``logging_to``.
        """
        write_status(self.status, self.trial.status)
        try:
            with logging_to(self.trial.compliance_raw, clock=self.trial.clock, **log):
                final = work()
        except BaseException as error:
            with at_an_end("how the trial ended"):
                write_status(failed_status(self.status, error), self.trial.status)
            raise
        write_status(final, self.trial.status)
        return final

    def caches_dropped(self, drop: CacheDrop) -> None:
        """Record how the page cache was dropped; a run without is degraded."""
        write_json(self.trial.cache_drop, drop, sort_keys=False)
        log_line(drop.sentence())
        for code, text in drop.notes():
            self.degrade(code, text)
        if drop.dropped:
            emit(tags.RUN_CLEAR_CACHES)

    def record_system(self, found: Mapping[str, Any], notes: Notes) -> None:
        """Write system.json, and degrade the result for each of ``notes`` that applies."""
        record = {**found, "privileges": privileges.of_this_process()}
        write_json(self.trial.system, record, sort_keys=False)
        original = self.spec.replays
        replay: Notes = [("replay", f"{original} once more, with its seed", original)]
        for code, text in applying([*notes, *replay]):
            self.degrade(code, text)
        write_status(self.status, self.trial.status)

    def degrade(self, code: str, text: str) -> None:
        """Note one more reason why the result is less than the benchmark's own."""
        emit(tags.DEGRADED, code)
        self.status = degraded_status(self.status, code, text)
