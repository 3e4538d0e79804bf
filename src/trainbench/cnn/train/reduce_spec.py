"""The grammar of ``--all_reduce_spec``, and the packing of small tensors before a sum.

spec  := range | range ":" limit ":" spec
range := algorithm [ "#" shards ]
limit := digits [ k | K | M | G | T ]          powers of 1024, in elements

"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass

from trainbench.cnn.flags.params import ParamError

ALGORITHMS = (
    "nccl",
    "nccl/xring",
    "nccl/rechd",
    "nccl/pscpu",
    "xring",
    "pscpu",
    "psgpu",
    "pscpu/pscpu",
    "collective",
)
_POWERS = {"": 0, "k": 1, "K": 1, "M": 2, "G": 3, "T": 4}


@dataclass(frozen=True)
class Range:
    """The algorithm for tensors of up to ``limit`` elements; -1 is without limit."""

    algorithm: str
    limit: int


def parse(spec: str) -> list[Range]:
    """The ranges of ``spec``, smallest limit first.

    Raises:
        ParamError: a malformed specification, a limit that is not a number, an unknown algorithm.
    """
    parts = spec.split(":")
    if len(parts) % 2 == 0:
        raise ParamError(f"all_reduce_spec not well formed: {spec}")
    limits = [_limit(part, spec) for part in parts[1::2]] + [-1]
    ranges = [_range(part, limit, spec) for part, limit in zip(parts[::2], limits, strict=True)]
    for before, after in itertools.pairwise(limits[:-1]):
        if after <= before:
            raise ParamError(f"all_reduce_spec not well formed: {spec}")
    return ranges


def _limit(text: str, spec: str) -> int:
    found = re.fullmatch(r"(\d+)([kKMGT]?)", text)
    if not found:
        raise ParamError(f"all_reduce_spec ({spec}) contains non-integer range {text}")
    return int(found[1]) << (10 * _POWERS[found[2]])


def _range(text: str, limit: int, spec: str) -> Range:
    algorithm, _, shards = text.partition("#")
    if algorithm not in ALGORITHMS:
        raise ParamError(f"all_reduce_spec ({spec}) contains invalid alg {algorithm}")
    if "#" in text and not (shards.isdigit() and int(shards)):
        raise ParamError(f"all_reduce_spec not well formed: {spec}")
    return Range(algorithm, limit)


def extract_ranges(indices: Sequence[int], *, longest: int | None = None) -> list[list[int]]:
    """Runs ``[first, last]`` of two and more consecutive numbers in the ascending ``indices``.

    None spans more than ``longest`` numbers.
    """
    runs: list[list[int]] = []
    for index in indices:
        open_run = runs and index == runs[-1][1] + 1
        if open_run and (longest is None or index - runs[-1][0] < longest):
            runs[-1][1] = index
        else:
            runs.append([index, index])
    return [run for run in runs if run[0] != run[1]]


def packs(sizes: Sequence[int], *, max_bytes: int, max_group: int) -> list[list[int]]:
    """Which tensors are summed together: lists of indices, in order.

    Args:
        sizes: elements, of four bytes, of each tensor.
        max_bytes: a tensor of at most this many bytes is small.
        max_group: the most tensors in one pack.
    """
    small = [i for i, size in enumerate(sizes) if size * 4 <= max_bytes]
    runs = extract_ranges(small, longest=max_group)
    first_of = {run[0]: list(range(run[0], run[1] + 1)) for run in runs}
    packed = {i for group in first_of.values() for i in group[1:]}
    return [first_of.get(i, [i]) for i in range(len(sizes)) if i not in packed]
