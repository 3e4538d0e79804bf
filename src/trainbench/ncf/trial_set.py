"""A set of NCF trials on several machines: checked before it runs, and a worker's part in it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from trainbench.configuration import to_json
from trainbench.distribution.cluster import Cluster, from_tf_config
from trainbench.distribution.liveness import JOIN_TIMEOUT_S
from trainbench.errors import ConfigError, TrainbenchError
from trainbench.ncf.config import NcfConfig, indivisible
from trainbench.ncf.steps import inputs
from trainbench.progress import log_line
from trainbench.trials import child, trial_set
from trainbench.trials.spec import SetSpec


@dataclass(frozen=True)
class Options:
    """What ``train`` hands to NCF's trials and workers beside the configuration."""

    hash_pipeline: bool = False
    profile: str | None = None
    tf_config: str | None = None
    join_timeout_s: float = JOIN_TIMEOUT_S

    @property
    def cluster(self) -> Cluster | None:
        """The machines of the trial; ``None`` for one."""
        return from_tf_config(self.tf_config or "")


def check_set(spec: SetSpec) -> SetSpec:
    """``spec`` as it runs; on several machines always as a new run.

    Raises:
        ConfigError: what several machines cannot train, or not with these options.
    """
    cluster = Options(**spec.options).cluster
    if cluster is None:
        return spec
    if spec.pipeline:
        raise ConfigError(
            "TF_CONFIG names several machines: run download and preprocess on each, then train on "
            "each, then stitch and report on worker 0 (docs/multi_machine.md)"
        )
    if spec.seed is None:
        raise ConfigError(
            "several machines train together: give each the same --seed, from which all of them "
            "draw the same samples"
        )
    _check_config(spec.config, cluster)
    # Workers cannot know which trials another machine's run lacks.
    return replace(spec, fresh=True)


def _check_config(config: NcfConfig, cluster: Cluster) -> None:
    if config.tpu or config.cpu_devices > 1:
        name = "tpu" if config.tpu else "cpu_devices"
        raise ConfigError(f"{name} is for one machine, and TF_CONFIG names several")
    if config.batch_size % cluster.num_workers:
        raise ConfigError(indivisible(config.batch_size, cluster.num_workers))


def work(spec: SetSpec) -> bool:
    """Do this machine's part in every trial of the chief's set; false on the chief's own machine.

    Raises:
        TrainbenchError: a trial's part failed, of the kind that its exit code names.
    """
    cluster = Options(**spec.options).cluster
    if cluster is None or cluster.is_chief:
        return False
    inputs(spec.config, spec.data)
    number = cluster.me.index
    log_file, file = spec.data.worker_log(number), spec.data.worker_spec(number)
    log_file.parent.mkdir(parents=True, exist_ok=True)
    for index in range(spec.runs):
        log_line(f"worker {number}, trial {index + 1} of {spec.runs}; log: {log_file}")
        arguments = {
            "config": to_json(spec.config),
            "data": str(spec.data.root),
            "seed": trial_set.trial_seed(spec.seed, index),
            "log_file": str(log_file),
            "drop_cache_location": spec.drop_cache_location,
            "options": spec.options,
        }
        code = trial_set.follow(
            child.command(file, "trainbench.ncf.worker:run_worker", arguments), log_file
        )
        if code:
            kind = trial_set.HOPELESS.get(code, TrainbenchError)
            raise kind(
                f"trial {index}: the worker ended with {trial_set.ending(code)}; see {log_file}"
            )
    return True
