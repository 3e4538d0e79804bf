"""How workers that each make their own slices of the batches agree on an epoch's input."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace

import numpy as np

from trainbench.distribution.cluster import Cluster
from trainbench.movielens.cache import RatingsCache
from trainbench.ncf.config import NcfConfig
from trainbench.ncf.input.stream.pieces import EpochData, hash_of_slices
from trainbench.ncf.input.stream.slices import SLICES
from trainbench.ncf.replicas import Replicas
from trainbench.progress import log_line


def slices_of(config: NcfConfig, cluster: Cluster | None) -> range:
    """The slices of every batch that this worker makes; all where they cannot be divided."""
    every = range(SLICES)
    if cluster is None or config.tables != "sharded":
        return every
    workers, index = cluster.num_workers, cluster.me.index
    if config.stream_format == 1 or SLICES % workers:
        why = "stream format 1 has no slices"
        if config.stream_format != 1:
            why = f"the {SLICES} slices of a batch cannot be divided among {workers} workers"
        log_line(f"each worker makes whole batches: {why}")
        return every
    own = SLICES // workers
    return range(index * own, (index + 1) * own)


def data_sha256(cache: RatingsCache) -> str:
    """A hash of all ratings, which slices of different workers cannot tell."""
    return hashlib.sha256(json.dumps(cache.record["arrays"], sort_keys=True).encode()).hexdigest()


def whole_record(batches: EpochData, replicas: Replicas, first_batch_sha256: str) -> EpochData:
    """``batches`` with the hashes of all workers' slices in its record.

    Args:
        first_batch_sha256: of the whole first batch, as an earlier piece of the epoch had it.

    Raises:
        MachineError: the workers are not at the same piece of the same epoch.
    """
    record = batches.record
    own = {"epoch_sha256", "first_batch_sha256", "first_slice", "slice_sha256"}
    common = {name: value for name, value in asdict(record).items() if name not in own}
    told = hashlib.sha256(json.dumps(common, sort_keys=True).encode()).digest()
    replicas.require_agreement(f"the input of epoch {batches.epoch}", told)
    mine = np.frombuffer(bytes.fromhex("".join(record.slice_sha256)), np.uint8)
    every = replicas.wire.gathered(mine.astype(np.int32))
    if record.piece == 0:
        first_batch_sha256 = _first_batch(batches, replicas)
    return replace(
        batches,
        record=replace(
            record,
            epoch_sha256=hash_of_slices([every.astype(np.uint8).tobytes()]),
            first_batch_sha256=first_batch_sha256,
        ),
    )


def _first_batch(batches: EpochData, replicas: Replicas) -> str:
    mine = np.stack([np.asarray(array[0], np.int32) for array in batches.arrays])
    every = replicas.wire.gathered(mine)
    users, items, labels = np.moveaxis(every, 1, 0).reshape(3, -1)
    parts = (users.astype("<i4"), items.astype("<i4"), labels.astype("|u1"))
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).hexdigest()
