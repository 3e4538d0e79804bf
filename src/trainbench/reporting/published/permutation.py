"""Is one set of runs faster than another? The exact one-sided permutation test of the mean."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

MOST_CELLS = 20_000_000
"""Of the table of sums. The public runs and any set of up to a thousand runs need fewer."""


def p_faster(own: Sequence[int], others: Sequence[int]) -> float:
    """The share of all ways to choose ``len(own)`` of all values whose sum is at most that of own.

    If ``own`` and ``others`` are exchangeable, that is drawn from one distribution and independent,
    the probability of a value of ``p`` or less is at most ``p``, and equal to it for every value
    that can occur. Ties need no correction: what is counted are choices of runs, not of values.

    The number of choices with each sum is computed group by group of equal values, in float64, and
    the result has ten digits.

    Raises:
        ValueError: no value on one side, or too many for the table of sums.
    """
    if not own or not others:
        raise ValueError("two sets of one value at least")
    values = Counter((*own, *others))
    low = min(values)
    # Which values are own is as well told by those that are not: the smaller side is chosen.
    turned = len(own) > len(others)
    chosen = others if turned else own
    number, wanted = len(chosen), sum(value - low for value in chosen)
    most = sum(sorted((v - low for v in (*own, *others)), reverse=True)[:number])
    if (number + 1) * (most + 1) > MOST_CELLS:
        raise ValueError(f"{len(own)} and {len(others)} values, too many")
    sums = _ways([(value - low, count) for value, count in values.items()], number, most)
    part = sums[wanted:] if turned else sums[: wanted + 1]
    # Exactly rounded, and to digits that no processor has its own: a report has equal bytes.
    return float(f"{min(math.fsum(part) / math.fsum(sums), 1.0):.10g}")


def smallest_p(own: int, others: int) -> float:
    """The smallest ``p`` that ``own`` runs can have beside ``others``: all of them are faster."""
    return 1 / math.comb(own + others, own)


def _ways(groups: Sequence[tuple[int, int]], number: int, most: int) -> np.ndarray:
    """By sum up to ``most``, in how many ways ``number`` values add up to it, times a constant."""
    ways: np.ndarray = np.zeros((number + 1, most + 1))
    ways[0, 0] = 1.0
    for value, count in groups:
        taken = np.zeros_like(ways)
        for k in range(min(count, number) + 1):
            if k * value > most:
                break
            weight = math.comb(count, k) / 2**count
            taken[k:, k * value :] += weight * ways[: number + 1 - k, : most + 1 - k * value]
        ways = taken / taken.max()
    found: np.ndarray = ways[number]
    return found
