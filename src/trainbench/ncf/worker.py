"""One machine's part in a trial of several: worker 1 and above. Only the chief writes results."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from trainbench.distribution.join import together
from trainbench.distribution.liveness import Liveness
from trainbench.movielens.cache import find_cache, open_cache
from trainbench.ncf.config import from_json
from trainbench.ncf.devices import check_devices, join_workers
from trainbench.ncf.input.producer import start_producer
from trainbench.ncf.loop import Course, Observer
from trainbench.ncf.trial_set import Options
from trainbench.trials.paths import DataDir


def run_worker(arguments: Mapping[str, Any]) -> int:
    """Work for the chief until the trial ends; nothing is written but a log.

    Args:
        arguments: of ``trial_set.work``: config (as JSON), data, seed, log_file,
            drop_cache_location, options.

    Raises:
        MachineError: another worker is gone, or the workers differ in what they train on.
    """
    config, options = from_json(arguments["config"]), Options(**arguments["options"])
    data, cluster = DataDir(Path(arguments["data"])), options.cluster
    assert cluster is not None, "a worker is one of several"
    check_devices(config, cluster)
    watch = Liveness(cluster, timeout_s=options.join_timeout_s, option="--join-timeout-s")
    replicas = join_workers(config, watch)
    cache = open_cache(find_cache(config.split_spec, data), verify=False)
    with tempfile.TemporaryDirectory() as scratch, together(watch, replicas.meet):
        producer = start_producer(
            cache,
            config,
            seed=arguments["seed"],
            work_dir=data.work,
            log_file=Path(arguments["log_file"]),
            compliance_file=Path(scratch) / "compliance.log",
        )
        with producer:
            Course(
                config=config,
                seed=arguments["seed"],
                cache=cache,
                producer=producer,
                replicas=replicas,
                observer=Observer(),
                drop_cache_location=arguments["drop_cache_location"],
            ).run()
    return 0
