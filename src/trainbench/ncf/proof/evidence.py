"""What a trial left that its hits can be proved from: record, log, weights, cache, ranks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import msgspec
import numpy as np
import numpy.typing as npt

from trainbench.compliance.parse import read_log
from trainbench.compliance.tags import ncf as tags
from trainbench.errors import DataIntegrityError, MachineError, NotCompliantError
from trainbench.files import damage_told, parse_object, read_file, read_object
from trainbench.movielens.cache import RatingsCache, open_cache
from trainbench.ncf.config import NcfConfig, from_json
from trainbench.trials.paths import DataDir, RunDir, TrialDir
from trainbench.trials.spec import recorded_seed

ENDED = ("converged", "not_converged", "completed")
_DAMAGE = (OSError, EOFError, ValueError, KeyError, TypeError, BadZipFile)

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Recorded:
    """What epochs.jsonl says of one evaluation."""

    epoch: int
    hits: int
    users: int
    ndcg: float
    candidates_sha256: str | None = None


@dataclass(frozen=True)
class Evidence:
    """Everything that the proof of a trial starts from.

    Attributes:
        epochs: of the trial that were evaluated, in order; the weights are of the last.
        ranks: int32 [users], that the last evaluation found; ``None`` of a run before 0.3.
        findings: in which its records do not fit each other, in words.
    """

    config: NcfConfig
    seed: int
    device: str
    epochs: tuple[Recorded, ...]
    weights: Mapping[str, Array]
    ranks: Array | None
    cache: RatingsCache
    findings: tuple[str, ...]


def gather(run: RunDir, trial: TrialDir, data: DataDir | None) -> Evidence:
    """The evidence of ``trial``, whose candidates are drawn from a cache in ``data``.

    Raises:
        MachineError: no cache, no weights, or a trial that has not ended.
        DataIntegrityError: a damaged file. NotCompliantError: files that are not of one trial.
    """
    with damage_told(trial.status, "the status of a trial", "name a trial that has ended"):
        status = read_object(trial.status)
    if status.get("state") not in ENDED:
        raise MachineError(
            f"{trial.root}: {status.get('state')}; only a trial that trained to its end has hits "
            "to prove"
        )
    config = from_json(run.config.read_bytes())
    epochs = _epochs(trial.epochs)
    seed = recorded_seed(trial)
    cache = _cache(run, data)
    weights = _weights(trial.model / "weights.npz", config, cache)
    ranks = _ranks(trial.model / "ranks.npy", cache.num_users)
    findings = [*_against_log(trial, epochs[-1], seed), *_against_ranks(epochs[-1], ranks)]
    if epochs[-1].users != cache.num_users:
        findings.append(f"epochs.jsonl has {epochs[-1].users} users, the cache {cache.num_users}")
    device = str(status.get("device"))
    return Evidence(config, seed, device, epochs, weights, ranks, cache, tuple(findings))


def _epochs(path: Path) -> tuple[Recorded, ...]:
    with damage_told(path, "the epochs of a trial", "name a trial that has ended"):
        lines = [parse_object(line) for line in read_file(path).decode().splitlines()]
        evaluated = [line for line in lines if line.get("hits", "missing") is not None]
        found = tuple(msgspec.convert(line, Recorded) for line in evaluated)
        if not found:
            raise ValueError("no line")
    return found


def _cache(run: RunDir, data: DataDir | None) -> RatingsCache:
    """The cache that the run was made from, verified; by default in its own data directory."""
    with damage_told(run.cache_record, "the record of a run's cache", "copy the run again"):
        record = read_object(run.cache_record)
        key, arrays = str(record["key"]), record["arrays"]
    folder = (data or DataDir(run.root.parents[1])).cache(key)
    if not folder.is_dir():
        raise MachineError(
            f"{folder}: not there; the candidates of this run are drawn from this cache. Name a "
            "data directory that has it with --data-dir, or make it there with download and "
            f"preprocess and the settings in {run.config}"
        )
    cache = open_cache(folder, verify=True)
    if cache.record["arrays"] != arrays:
        raise NotCompliantError(f"{folder}: other ratings than those in {run.cache_record}")
    return cache


def _weights(path: Path, config: NcfConfig, cache: RatingsCache) -> dict[str, Array]:
    if not path.is_file():
        raise MachineError(f"{path}: not there; the proof needs the weights of the trial")
    try:
        with np.load(path, allow_pickle=False) as file:
            weights = {name: file[name] for name in file.files}
    except _DAMAGE as error:
        raise DataIntegrityError(f"{path}: not the weights of a trial ({error})") from None
    wanted = _shapes(config, cache.num_users, cache.num_items)
    for name, shape in wanted.items():
        found = weights[name].shape if name in weights else "nothing"
        if found != shape:
            raise NotCompliantError(
                f"{path}: {name} is {found}, but the run's settings and ratings want {shape}"
            )
        if weights[name].dtype.kind != "f":
            raise NotCompliantError(
                f"{path}: {name} has the type {weights[name].dtype}, wanted floating-point numbers"
            )
        if not np.isfinite(weights[name]).all():
            raise NotCompliantError(f"{path}: {name} has a number that is not finite")
    return weights


def _shapes(config: NcfConfig, users: int, items: int) -> dict[str, tuple[int, ...]]:
    """Name and shape of each parameter, as docs/outputs.md has them."""
    sizes, mf = config.mlp_layer_sizes, config.mf_dim
    shapes: dict[str, tuple[int, ...]] = {}
    for side, rows in (("user", users), ("item", items)):
        shapes |= {f"{side}_mf": (rows, mf), f"{side}_mlp": (rows, sizes[0] // 2)}
    for layer in range(1, len(sizes)):
        shapes[f"mlp_{layer}_kernel"] = (sizes[layer - 1], sizes[layer])
        shapes[f"mlp_{layer}_bias"] = (sizes[layer],)
    return shapes | {"final_kernel": (mf + sizes[-1], 1), "final_bias": (1,)}


def _ranks(path: Path, users: int) -> Array | None:
    if not path.is_file():
        return None
    try:
        ranks: Array = np.load(path, allow_pickle=False)
    except _DAMAGE as error:
        raise DataIntegrityError(f"{path}: not the ranks of a trial ({error})") from None
    if ranks.shape != (users,) or ranks.dtype.kind not in "iu":
        raise NotCompliantError(
            f"{path}: {ranks.dtype} {ranks.shape}, wanted whole numbers ({users},)"
        )
    return ranks


def _against_log(trial: TrialDir, last: Recorded, seed: int) -> list[str]:
    """Where the trial's raw log says another thing than its last line of epochs.jsonl."""
    events = read_log(trial.compliance_raw).events
    values = {event.key: event.value for event in events}
    logged = values.get(tags.EVAL_HITS)
    wanted = {"epoch": last.epoch, "value": last.hits}
    findings = []
    if logged != wanted:
        findings.append(f"the log's last eval_hits is {logged}, epochs.jsonl has {wanted}")
    if values.get(tags.SEED) != seed:
        findings.append(f"the log's seed is {values.get(tags.SEED)}, status.json has {seed}")
    return findings


def _against_ranks(last: Recorded, ranks: Array | None) -> list[str]:
    """Where ranks.npy gives other numbers than the last line of epochs.jsonl."""
    if ranks is None:
        return []
    hits = ranks[ranks < 10]
    found = f"{len(hits):,} hits in ranks.npy, {last.hits:,} in epochs.jsonl"
    findings = [] if len(hits) == last.hits else [found]
    ndcg = float((1 / np.log2(hits + 2.0)).sum()) / len(ranks)
    if abs(ndcg - last.ndcg) > 1e-9:
        findings.append(f"ndcg {ndcg:.6f} by ranks.npy, {last.ndcg} in epochs.jsonl")
    return findings
