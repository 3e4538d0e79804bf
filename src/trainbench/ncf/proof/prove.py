"""``trainbench prove``: the hits of a trial's last evaluation, computed a second time.

The weights are those after the last epoch, so it is the last evaluation that is looked at. Every
user's rank is compared: rounding explains a rank that scores within their errors could have
(``forward``, ``ranking``), and nothing else does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from trainbench import __version__
from trainbench.files import sha256_of, write_json
from trainbench.ncf.proof.candidates import drawn
from trainbench.ncf.proof.evidence import Evidence, gather
from trainbench.ncf.proof.forward import DEVIATIONS, Network, Rounding
from trainbench.ncf.proof.ranking import TOP, Place, place
from trainbench.progress import Progress
from trainbench.trials.paths import DataDir, RunDir, TrialDir

USERS_AT_ONCE = 8
SHOWN = 20


@dataclass(frozen=True)
class Differing:
    """A user for whom the trial found another thing than float64 does.

    ``margin`` is the score of the held-out item above that of its tenth best rival, ``bound`` the
    error of this difference, null if it is not finite; ``explained`` says whether rounding
    explains the recorded rank.
    """

    user: int
    recorded_rank: int | None
    rank: int
    margin: float | None
    bound: float | None
    explained: bool

    def __str__(self) -> str:
        found = "" if self.recorded_rank is None else f"rank {self.recorded_rank} recorded, "
        end = "" if self.explained else ": not explained by rounding"
        if self.bound is None:
            return f"user {self.user}: {found}scores or errors that are not finite{end}"
        margin = "no tenth rival" if self.margin is None else f"margin {self.margin:.3g}"
        found += f"{self.rank} in float64"
        return f"user {self.user}: {found}, {margin}, bound {self.bound:.3g}{end}"


@dataclass(frozen=True)
class Proof:
    """The content of proof.json.

    Attributes:
        epoch: whose evaluation it is, from 0: the last.
        equal_ranks, explained_ranks, unexplained_ranks: users by what became of their rank; null
            where the trial kept no ranks.
        undecided: users whose hit rounding could change.
        differing: users whose hit differs, or whose rank is not explained.
        findings: what does not hold, in words; proved when there is none.
    """

    trial: int
    epoch: int
    users: int
    recorded_hits: int
    hits: int
    precision: str
    equal_ranks: int | None
    explained_ranks: int | None
    unexplained_ranks: int | None
    undecided: int
    differing: tuple[Differing, ...]
    findings: tuple[str, ...]
    proved: bool
    candidates_sha256: str
    weights_sha256: str
    trainbench_version: str = field(default=__version__)
    schema: int = 1

    def __str__(self) -> str:
        text = f"hits equal: {self.recorded_hits:,} = {self.hits:,} of {self.users:,} users"
        if self.recorded_hits != self.hits:
            within = " within rounding" if self.proved else ""
            text = f"hits differ{within}: {self.recorded_hits:,} recorded, {self.hits:,} in float64"
        if self.equal_ranks is not None:
            text += f"; {self.equal_ranks:,} ranks equal, {self.explained_ranks:,} within rounding"
        if self.undecided:
            text += f"; rounding could change the hits of {self.undecided:,} users"
        lines = [f"trial {self.trial}, last epoch ({self.epoch}), {self.precision}: {text}"]
        lines += [f"  {user}" for user in self.differing[:SHOWN]]
        if len(self.differing) > SHOWN:
            lines.append(f"  and {len(self.differing) - SHOWN:,} more in proof.json")
        return "\n".join([*lines, *(f"  NOT PROVED: {finding}" for finding in self.findings)])


def prove(run: RunDir, trial: TrialDir, data: DataDir | None) -> Proof:
    """Compute the hits of ``trial`` again and write proof.json.

    Args:
        data: with the cache of the run; ``None``: the data directory that the run lies in.

    Raises:
        MachineError, DataIntegrityError, NotCompliantError: of ``gather``; no proof is written.
    """
    evidence = gather(run, trial, data)
    digest = hashlib.sha256()
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite becomes a finding
        places = list(_places(evidence, digest))
    found = _proof(trial, evidence, places, digest.hexdigest())
    write_json(trial.proof, found, sort_keys=False)
    return found


def _places(evidence: Evidence, digest: Any) -> Iterator[Place]:
    """The place of each user's held-out item; the candidates go into ``digest`` on the way."""
    config, cache = evidence.config, evidence.cache
    rounding = Rounding.of(config.precision, evidence.device)
    network = Network(evidence.weights, rounding)
    with Progress(cache.num_users, unit="users", label="prove") as progress:
        for first, rows in drawn(
            cache, evidence.seed, config.eval_negatives, stream_format=config.stream_format
        ):
            digest.update(np.ascontiguousarray(rows, "<i4").data)
            for start in range(0, len(rows), USERS_AT_ONCE):
                items = rows[start : start + USERS_AT_ONCE]
                users = np.arange(first + start, first + start + len(items))
                scores = network.scores(users, items)
                errors = DEVIATIONS * np.sqrt(scores.variance.astype(np.float64))
                for row in range(len(items)):
                    yield place(items[row], scores.of[row], errors[row])
                progress.advance(len(items))


def _proof(
    trial: TrialDir, evidence: Evidence, places: list[Place], candidates_sha256: str
) -> Proof:
    last, ranks = evidence.epochs[-1], evidence.ranks
    differing = tuple(_differing(places, ranks))
    unexplained = sum(not user.explained for user in differing)
    equal = None if ranks is None else int((_ranks_of(places) == ranks).sum())
    findings = list(evidence.findings)
    if last.candidates_sha256 not in (None, candidates_sha256):
        findings.append(
            f"the candidates drawn from the seed have SHA-256 {candidates_sha256}, those of "
            f"epochs.jsonl {last.candidates_sha256}"
        )
    findings += _of_hits(places, evidence, unexplained)
    return Proof(
        trial=trial.index,
        epoch=last.epoch,
        users=len(places),
        recorded_hits=last.hits,
        hits=sum(p.hit for p in places),
        precision=evidence.config.precision,
        equal_ranks=equal,
        explained_ranks=None if equal is None else len(places) - equal - unexplained,
        unexplained_ranks=None if equal is None else unexplained,
        undecided=sum(_undecided(p) for p in places),
        differing=differing,
        findings=tuple(findings),
        proved=not findings,
        candidates_sha256=candidates_sha256,
        weights_sha256=sha256_of(trial.model / "weights.npz"),
    )


def _ranks_of(places: list[Place]) -> npt.NDArray[np.int64]:
    return np.array([p.rank for p in places], np.int64)


def _undecided(found: Place) -> bool:
    return found.lowest < TOP <= found.highest


def _differing(places: list[Place], ranks: npt.NDArray[Any] | None) -> Iterator[Differing]:
    """Users whose hit differs or whose rank is not explained.

    Without recorded ranks, the users whose hit rounding could change.
    """
    for user, found in enumerate(places):
        margin = found.margin if np.isfinite(found.margin) else None
        bound = found.bound if np.isfinite(found.bound) else None
        if ranks is None:
            if _undecided(found):
                yield Differing(user, None, found.rank, margin, bound, True)
            continue
        recorded = int(ranks[user])
        explained = found.can_be(recorded)
        if not explained or (recorded < TOP) != found.hit:
            yield Differing(user, recorded, found.rank, margin, bound, explained)


def _of_hits(places: list[Place], evidence: Evidence, unexplained: int) -> Iterator[str]:
    """What is wrong with the recorded hits, in words."""
    last, hits = evidence.epochs[-1], sum(p.hit for p in places)
    unbounded = sum(not np.isfinite(p.bound) for p in places)
    if unbounded:
        yield f"the scores of {unbounded:,} users, or their errors, are not finite in float32"
    elif all(map(_undecided, places)):
        yield "rounding could change the hit of every user: these weights prove nothing"
    least = sum(p.highest < TOP for p in places)
    most = sum(p.lowest < TOP for p in places)
    if unexplained:
        yield f"the ranks of {unexplained:,} users are not those of these weights"
    elif not least <= last.hits <= most:
        yield f"{last.hits:,} hits recorded, rounding explains {least:,} to {most:,}"
    else:
        return
    others = [str(e.epoch) for e in evidence.epochs[:-1] if e.hits == hits]
    if others:
        yield f"the weights have the hits of epoch {', '.join(others)}, not of the last"
