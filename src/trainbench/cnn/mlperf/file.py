"""Where ``--ml_perf_compliance_logging`` writes, and the page cache before it; no TensorFlow."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from trainbench.cnn.flags.params import Params
from trainbench.compliance.emit import emit, logging_to
from trainbench.compliance.tags import ncf as tags
from trainbench.compliance.tags import resnet as resnet_tags
from trainbench.compliance.two_clocks import beside
from trainbench.machine import page_cache
from trainbench.progress import log_line

FILE = "COMPLIANCE_FILE"
DROP = "DROP_CACHES"
LOCATION = "DROP_CACHE_LOC"


@contextlib.contextmanager
def logged(params: Params, environment: Mapping[str, str]) -> Iterator[None]:
    """Log what runs inside, if ``params`` ask for it: to stdout, and to the file COMPLIANCE_FILE.

    The page cache is dropped first, by the means that NCF has, unless DROP_CACHES is 0. If that is
    proved the log has ``run_clear_caches``, and ``degraded`` where the proof or the kernel's own
    location is missing. Of several workers the first one logs.
    """
    if not params.ml_perf_compliance_logging or params.task_index:
        yield
        return
    path = environment.get(FILE)
    with logging_to(
        Path(path) if path else None,
        clock=beside(Path(path)) if path else None,
        benchmark=resnet_tags.BENCHMARK,
        raw_prefix="",
        echo=sys.stdout,
    ):
        if environment.get(DROP, "1").lower() in ("0", "no", "false"):
            drop = page_cache.not_dropped(f"turned off ({DROP}={environment[DROP]})")
        else:
            drop = page_cache.drop_page_cache(environment.get(LOCATION, page_cache.DROP_CACHES))
        log_line(drop.sentence())
        for code, text in drop.notes():
            log_line(f"degraded: {text}")
            emit(tags.DEGRADED, code)
        if drop.dropped:
            emit(tags.RUN_CLEAR_CACHES)
        yield
