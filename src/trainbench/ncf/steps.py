"""The steps of NCF as its record names them: download, verify, prepare, what a run copies.

A set of trials on several machines is checked before it runs, and a worker does its part in it.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from trainbench.benchmark import PUBLISHER, Inputs, Source
from trainbench.configuration import to_json
from trainbench.distribution import slurm
from trainbench.distribution.cluster import Cluster, from_tf_config, past_proxies
from trainbench.distribution.liveness import JOIN_TIMEOUT_S
from trainbench.errors import ConfigError, DataIntegrityError, Interrupted, TrainbenchError
from trainbench.movielens import archive, datasets, split, synthetic
from trainbench.movielens.cache import RECORD, find_cache, open_cache
from trainbench.movielens.large.expand import BYTES_PER_PAIR, expand
from trainbench.movielens.own import bring
from trainbench.movielens.own.options import Request
from trainbench.movielens.own.options import request as own_request
from trainbench.ncf.config import TOP, Lanes, NcfConfig, few_candidates, indivisible, lanes_refused
from trainbench.ncf.input.epochs import piece_bytes
from trainbench.ncf.input.flagfile import GenerationOptions
from trainbench.ncf.input.stream.sliced import expected_pieces
from trainbench.ncf.input.workdir import COME_WITHIN_S
from trainbench.progress import heartbeat, log_line
from trainbench.trials import child, trial_set
from trainbench.trials.paths import DataDir
from trainbench.trials.spec import SetSpec


def download(config: NcfConfig, data: DataDir, source: Source = PUBLISHER) -> None:
    """Fetch and verify, generate, or make of own ratings the dataset of ``config``; expand it."""
    _download(config, data, source)
    if config.expand:
        expand(config.split_spec, data, partial(_later, config))


def _later(config: NcfConfig, users: int, pairs: int) -> dict[str, int]:
    """Bytes that the steps after the download write of so many users and training pairs."""
    options = GenerationOptions.of(config, cache_folder=Path(), compliance_file=Path(), seed=0)
    held = options.cycles_ahead + 1
    return {
        "cache": pairs * BYTES_PER_PAIR,
        "candidates": users * (config.eval_negatives + 1) * 4,
        "epochs": held * piece_bytes(options, expected_pieces(pairs, options)),
    }


def _download(config: NcfConfig, data: DataDir, source: Source) -> None:
    dataset = datasets.dataset(config.dataset)
    asked = own_request(source.own)
    if asked or dataset.own:
        _bring(dataset.name, asked, data, source)
        return
    if dataset.name in synthetic.TASTES:
        if config.synthetic is None:
            raise ConfigError(
                f"dataset {dataset.name}: its size is missing; "
                "add --set synthetic=USERSxITEMSxRATINGS"
            )
        synthetic.generate(config.synthetic, data, dataset.name)
        return
    archive.download(
        dataset,
        data,
        mirror=source.mirror,
        archive=source.archive,
        sha256=source.sha256,
        hash_decides=source.hash_decides,
    )


def _bring(name: str, asked: Request | None, data: DataDir, source: Source) -> None:
    """Own ratings from the file that was asked for, or those that are there already."""
    if asked is None:
        present = bring.whole(name, data)
        if present is None:
            raise datasets.no_own(name)
        log_line(f"download: {data.raw(name)} is complete and unchanged (own ratings)")
        return
    if source.mirror or source.archive:
        raise ConfigError("--ratings and --mirror or --archive: wanted one of them, found both")
    if source.hash_decides:
        raise ConfigError(
            "--ratings and --hash-decides: wanted one of them, found both; no server is asked for "
            "own ratings"
        )
    bring.bring(name, asked, data, source.sha256)


def verify(config: NcfConfig, data: DataDir) -> None:
    """Compare the downloaded dataset with its manifest and its published checksums.

    Raises:
        DataIntegrityError: one comparison failed; all of them are printed.
    """
    raw = config.split_spec.raw
    checks = archive.verify(datasets.dataset(config.dataset), data, raw=raw)
    for check in checks:
        print(f"{'OK  ' if check.ok else 'FAIL'} {check.name}: {check.found}")
    if not all(check.ok for check in checks):
        raise DataIntegrityError(
            f"{data.raw(raw)}: not the dataset {raw}; delete the folder and "
            "run the download step again"
        )


def prepare(config: NcfConfig, data: DataDir) -> None:
    """Build the cache that training reads, unless a valid one is there."""
    split.run(config.split_spec, data, least_items=TOP + 1)


def inputs(config: NcfConfig, data: DataDir) -> Inputs:
    """What a run copies of its data; the cache is verified.

    Raises:
        MachineError: no cache. DataIntegrityError: it is damaged. ConfigError: so few items that
            every one is a hit.
    """
    folder = find_cache(config.split_spec, data)
    with heartbeat("verifying the cache"):
        cache = open_cache(folder, verify=True)
    if cache.num_items <= TOP:
        raise ConfigError(f"{folder}: {cache.num_items} items; {few_candidates()}")
    return Inputs(folder / RECORD, data.manifest(config.split_spec.raw))


@dataclass(frozen=True)
class Options:
    """What ``train`` hands to NCF's trials and workers beside the configuration."""

    hash_pipeline: bool = False
    profile: str | None = None
    tf_config: str | None = None
    slurm: bool = True
    join_timeout_s: float = JOIN_TIMEOUT_S
    generator_timeout_s: float = COME_WITHIN_S

    @property
    def cluster(self) -> Cluster | None:
        """The machines of the trial; ``None`` for one."""
        return from_tf_config(self.tf_config or "")


def check_set(spec: SetSpec) -> SetSpec:
    """``spec`` as it runs; on several machines always as a new run, and past the site's proxy.

    Raises:
        ConfigError: what several machines cannot train, or not with these options.
    """
    by_hand = Options(**spec.options).cluster is not None
    spec = _in_slurm(spec)
    cluster = Options(**spec.options).cluster
    if spec.replays:
        return _checked_replay(spec, cluster)
    if cluster is None:
        return spec
    if spec.pipeline:
        raise ConfigError(
            "TF_CONFIG names several machines: run download and preprocess on each, then train on "
            "each, then stitch and report on worker 0 (docs/multi_machine.md)"
            if by_hand
            else "this is one of several tasks of a Slurm step: run download and preprocess "
            "before, train alone with srun, then stitch and report (docs/slurm.md)"
        )
    if spec.seed is None and by_hand:
        raise ConfigError(
            "several machines train together: give each the same --seed, from which all of them "
            "draw the same samples"
        )
    _check_config(spec.config, cluster)
    # The processes that import TensorFlow inherit it.
    os.environ.update(past_proxies(cluster, os.environ))
    # Workers cannot know which trials another machine's run lacks.
    return replace(spec, fresh=True)


def _in_slurm(spec: SetSpec) -> SetSpec:
    """``spec`` with the tasks of the Slurm step as its machines, unless TF_CONFIG names others."""
    options = Options(**spec.options)
    if (options.tf_config or "").strip() or not options.slurm:
        return spec
    step = slurm.step_of(os.environ)
    if step is None:
        return spec
    cluster = slurm.cluster_of(step)
    log_line(f"{step}: {cluster.me} of {cluster.num_workers}")
    return replace(spec, options={**spec.options, "tf_config": cluster.tf_config()})


def _checked_replay(spec: SetSpec, cluster: Cluster | None) -> SetSpec:
    """``spec`` without a trace of its steps, which is no part of what is repeated."""
    if cluster is not None:
        raise ConfigError(
            f"{spec.replays} ran on {cluster.num_workers} machines; only trials of one machine "
            "are replayed"
        )
    config = spec.config
    if config.generator == "external":
        # It makes the same input as any other, and nobody has to start it.
        config = replace(config, generator="subprocess")
    return replace(spec, config=config, options={**spec.options, "profile": None})


def _check_config(config: NcfConfig, cluster: Cluster) -> None:
    if config.tpu or config.cpu_devices > 1:
        name = "tpu" if config.tpu else "cpu_devices"
        raise ConfigError(f"{name} is for one machine, and TF_CONFIG or Slurm names several")
    if config.generator == "external":
        raise ConfigError(
            "generator=external is for one trainer; of several machines each makes its own input"
        )
    if isinstance(config.lanes, Lanes):
        raise ConfigError(lanes_refused(config.lanes, "several machines"))
    if config.batch_size % cluster.num_workers:
        raise ConfigError(indivisible(config.batch_size, cluster.num_workers))


def work(spec: SetSpec) -> bool:
    """Do this machine's part in every trial of the chief's set; false on the chief's own machine.

    Raises:
        TrainbenchError: a trial's part failed, of the kind that its exit code names, so that the
            next one would as well; or all of them failed.
    """
    cluster = Options(**spec.options).cluster
    if cluster is None or cluster.is_chief:
        return False
    inputs(spec.config, spec.data)
    number = cluster.me.index
    log_file, file = spec.data.worker_log(number), spec.data.worker_spec(number)
    log_file.parent.mkdir(parents=True, exist_ok=True)
    indices, failed = range(spec.runs) if spec.trial is None else (spec.trial,), list[str]()
    for index in indices:
        log_line(f"worker {number}, trial {index + 1} of {spec.runs}; log: {log_file}")
        arguments = {
            "config": to_json(spec.config),
            "data": str(spec.data.root),
            # Without a seed of the set, the chief draws one and says it when all have joined.
            "seed": None if spec.seed is None else str(trial_set.trial_seed(spec.seed, index)),
            "log_file": str(log_file),
            "drop_cache_location": spec.drop_cache_location,
            "options": spec.options,
        }
        # A name of its own while it may be read: other trials have workers of this number here.
        own = file.with_name(f".{file.stem}-{secrets.token_hex(8)}.json")
        try:
            code = trial_set.follow(
                child.command(own, "trainbench.ncf.trial:run_worker", arguments),
                log_file,
                drop_cache_location=spec.drop_cache_location,
            )
        finally:
            # It is not there if it could not be written.
            with suppress(FileNotFoundError):
                own.replace(file)
        if code:
            ending = trial_set.ending(code)
            failed.append(f"trial {index}: the worker ended with {ending}; see {log_file}")
            _raise_if_hopeless(code, failed[-1])
            log_line(failed[-1])
    if len(failed) == len(indices):
        raise TrainbenchError(failed[-1])
    return True


def _raise_if_hopeless(code: int, told: str) -> None:
    """Raise where a worker's part ended so that this machine can do none in the next trial.

    A trial that fails by itself, as one that diverges on all workers, is a result like any other:
    worker 0 begins the next one, and waits for all others.
    """
    if code < 0 or code == Interrupted.exit_code or code in trial_set.HOPELESS:
        raise trial_set.HOPELESS.get(code, TrainbenchError)(told)
