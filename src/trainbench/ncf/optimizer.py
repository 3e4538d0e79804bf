"""Adam as PyTorch has it, and the sum of many of its steps without a gradient in closed form.

Source: Kingma and Ba 2015 (arXiv 1412.6980), algorithm 1; epsilon is added outside the square root.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from trainbench.ncf.config import NcfConfig

TOLERANCE = 1e-5
EARLY_STEPS = 128
SETTLED = 1e-13
LARGEST_BETA2 = 0.9999  # keeps the table of suffix sums under 10 MB
CUTS: tuple[tuple[int, ...], ...] = (
    (),
    (3, 10),
    (2, 5, 12, 30),
    (2, 4, 6, 9, 13, 18, 25, 40),
    (2, 4, 6, 8, 10, 12, 14, 17, 20, 24, 28, 34, 42, 60),
)

State = tuple[Any, Any, Any]
"""Value, m and v of a table or of rows of it, float32, each of one shape."""


class Now(NamedTuple):
    """A step: its number t, lr / (1 - beta1^t) and 1 / sqrt(1 - beta2^t)."""

    step: Any
    rate: Any
    root: Any


@dataclass(frozen=True)
class Adam:
    """The hyperparameters; the learning rate is constant, as the closed division asks."""

    learning_rate: float
    beta1: float
    beta2: float
    epsilon: float

    @classmethod
    def of(cls, config: NcfConfig) -> Adam:
        """The hyperparameters of ``config``."""
        return cls(config.learning_rate, config.beta1, config.beta2, config.epsilon)

    def now(self, step: Any) -> Now:
        """What all updates of step ``step`` (from 1) have in common.

        The bias corrections are computed in float64, because 1 - 0.999 has four digits left in
        float32.
        """
        time = tf.cast(step, tf.float64)
        first = self.learning_rate / -tf.math.expm1(time * _log(self.beta1))
        second = tf.math.rsqrt(-tf.math.expm1(time * _log(self.beta2)))
        return Now(step, tf.cast(first, tf.float32), tf.cast(second, tf.float32))

    def update(self, now: Now, value: Any, m: Any, v: Any, grad: Any) -> State:
        """New (value, m, v) after one step with gradient ``grad``; all float32 of one shape."""
        m = self.beta1 * m + (1 - self.beta1) * grad
        v = self.beta2 * v + (1 - self.beta2) * grad * grad
        value -= now.rate * m / (tf.sqrt(v) * now.root + self.epsilon)
        return value, m, v


class CatchUp:
    """What k steps of Adam with gradient 0 do to a row that was last updated in step t0.

    The moments decay, m by beta1^k and v by beta2^k, and the parameter moves by

        -lr * m * sum over j = 1..k of  w_j * e_j / (sqrt(v) + epsilon * e_j)
        w_j = beta1^j / (1 - beta1^(t0+j))
        e_j = sqrt(1 - beta2^(t0+j)) / beta2^(j/2)

    which has k terms per element. But the weights w_j at the places e_j are the same for all
    elements of a row, and a Gauss rule puts two points in their stead that have the same first four
    moments: two terms instead of k, exact both where epsilon vanishes and where it dominates. The
    moments are differences of suffix sums over t, so they cost a table look-up. Where two points
    are not within TOLERANCE of the sum (after the first steps, whose bias correction changes fast;
    with betas far from 1) the sum is cut into stretches with two points each.
    """

    def __init__(self, adam: Adam):
        self.adam, self.betas = adam, (adam.beta1, adam.beta2)
        self.rates, self.suffix_sums = _suffix_sums(adam.beta1, adam.beta2)
        self.early_cuts = self._sufficient_cuts(first_step=1)
        self.late_cuts = self._sufficient_cuts(first_step=EARLY_STEPS)

    def points(self, last: Any, steps: Any, *, cuts: tuple[int, ...]) -> tuple[Any, Any]:
        """Weights and places of the rule, float64 [rows, 2 * (len(cuts) + 1)].

        Args:
            last: int [rows], the step t0 that each row was last updated in.
            steps: int [rows], the number k of steps since.
            cuts: after which j the sum is cut.
        """
        last, steps = tf.cast(last, tf.int64)[:, None], tf.cast(steps, tf.int64)[:, None]
        bounds = tf.minimum(tf.constant([[0, *cuts]], tf.int64), steps)
        bounds = tf.concat([bounds, steps], axis=1)
        index = tf.minimum(last + bounds, len(self.suffix_sums) - 1)
        decay = tf.exp(tf.cast(bounds, tf.float64)[:, :, None] * self.rates)
        rest = decay * tf.gather(tf.constant(self.suffix_sums), index)
        weights, places = _two_points(rest[:, :-1] - rest[:, 1:])
        width = 2 * (len(cuts) + 1)
        return tf.reshape(weights, [-1, width]), tf.reshape(places, [-1, width])

    def rows(self, last: Any, steps: Any, state: State) -> State:
        """``state`` after ``steps`` steps without a gradient.

        Args:
            last, steps: as for ``points``; rows whose ``last`` is 0 were never updated.
            state: value, m and v after step ``last``, float32 [rows, width] each.
        """
        value, m, v = state
        gap = tf.cast(steps, tf.float64)[:, None]
        decays = [tf.cast(tf.exp(gap * _log(b)), tf.float32) for b in self.betas]
        return value - m * self._movement(last, steps, v), m * decays[0], v * decays[1]

    def _movement(self, last: Any, steps: Any, v: Any) -> Any:
        """What to take off each value per unit of m, float32 of v's shape."""
        if self.early_cuts == self.late_cuts:
            return self._rule(last, steps, v, self.late_cuts)
        early = tf.reduce_any((last > 0) & (last < EARLY_STEPS) & (steps > 0))
        return tf.cond(
            early,
            lambda: self._rule(last, steps, v, self.early_cuts),
            lambda: self._rule(last, steps, v, self.late_cuts),
        )

    def _rule(self, last: Any, steps: Any, v: Any, cuts: tuple[int, ...]) -> Any:
        weights, places = self.points(last, steps, cuts=cuts)
        weights = tf.cast(weights * places * self.adam.learning_rate, tf.float32)
        places = tf.cast(places * self.adam.epsilon, tf.float32)
        root = tf.sqrt(v)
        points = range(2 * (len(cuts) + 1))
        return sum(weights[:, p, None] / (root + places[:, p, None]) for p in points)

    def error(self, *, first_step: int, cuts: tuple[int, ...]) -> float:
        """Largest relative error of the rule over steps t0 >= first_step, gaps and sizes of v."""
        adam, worst = self.adam, 0.0
        roots = adam.epsilon * np.logspace(-4, 4, 81)
        gaps = np.array([1, 2, 3, 4, 5, 7, 10, 15, 20, 30, 50, 100, 200, 400])
        for last in (first_step, 2 * first_step, 4 * first_step, 100_000):
            j = np.arange(1, gaps[-1] + 1)
            step_weights = np.exp(j * _log(adam.beta1)) / -np.expm1((last + j) * _log(adam.beta1))
            step_places = np.sqrt(-np.expm1((last + j) * _log(adam.beta2))) / adam.beta2 ** (j / 2)
            terms = (step_weights * step_places)[:, None]
            exact = np.cumsum(terms / (roots + adam.epsilon * step_places[:, None]), axis=0)
            weights, places = self.points(np.full(len(gaps), last), gaps, cuts=cuts)
            terms = (weights * places)[:, :, None] / (roots + adam.epsilon * places[:, :, None])
            found = tf.reduce_sum(terms, axis=1).numpy()
            worst = max(worst, float(np.abs(found / exact[gaps - 1] - 1).max()))
        return worst

    def _sufficient_cuts(self, *, first_step: int) -> tuple[int, ...]:
        for cuts in CUTS:
            if self.error(first_step=first_step, cuts=cuts) <= TOLERANCE:
                return cuts
        raise ValueError(f"no rule of at most {2 * len(CUTS[-1]) + 2} points for {self.adam}")


@cache
def catch_up(adam: Adam) -> CatchUp | None:
    """The closed form for ``adam``, or None where its betas allow none within TOLERANCE."""
    # The fourth moment's terms grow without bound unless beta1 < beta2^(3/2).
    if not 0 < adam.beta1 < 0.99 * adam.beta2**1.5 or adam.beta2 > LARGEST_BETA2:
        return None
    try:
        return CatchUp(adam)
    except ValueError:
        return None


def _suffix_sums(beta1: float, beta2: float) -> tuple[np.ndarray, np.ndarray]:
    """Logarithm of r_p, [4], and S_p(t) = sum over j >= 1 of r_p^j * h_p(t+j), [t, 4], p = 0..3.

    With r_p = beta1 / beta2^(p/2) and h_p(t) = (1 - beta2^t)^(p/2) / (1 - beta1^t), the moment p of
    the steps j with a < j <= b is r_p^a S_p(t0+a) - r_p^b S_p(t0+b). Past the table's end the bias
    corrections have settled and S_p stays what it is.
    """
    power = np.arange(4)
    rates = _log(beta1) - power / 2 * _log(beta2)
    time = np.arange(1, math.ceil(math.log(SETTLED) / _log(beta2)) + 2)[:, None]
    heights = (-np.expm1(time * _log(beta2))) ** (power / 2) / -np.expm1(time * _log(beta1))
    ratio = np.exp(rates)
    sums = np.empty((len(time), 4))
    sums[-1] = heights[-1] * ratio / (1 - ratio)
    for index in range(len(time) - 2, -1, -1):
        sums[index] = ratio * (heights[index] + sums[index + 1])
    return rates, sums


def _two_points(moments: Any) -> tuple[Any, Any]:
    """Weights and places [..., 2] of the Gauss rule with moments 0 to 3 of [..., 4], float64."""
    # A stretch without steps has no weight; its place may be anything but 0, which divides below.
    moments = tf.where(moments[..., :1] > 0, moments, tf.constant([0.0, 1, 1, 1], tf.float64))
    total = moments[..., 0]
    size = tf.where(total > 0, total, tf.ones_like(total))
    mean, second, third = (moments[..., p] / size for p in (1, 2, 3))
    variance = tf.maximum(second - mean * mean, 0.0)
    spread = tf.sqrt(variance)
    # One place only, up to rounding: both points fall on it.
    single = variance <= SETTLED * mean * mean
    asymmetry = tf.where(single, tf.zeros_like(mean), third - 3 * mean * second + 2 * mean**3)
    skew = asymmetry / tf.where(single, tf.ones_like(mean), variance * spread)
    reach = tf.sqrt(1 + skew * skew / 4)
    upper, lower = mean + spread * (skew / 2 + reach), mean + spread * (skew / 2 - reach)
    share = (reach - skew / 2) / (2 * reach)
    return tf.stack([total * share, total * (1 - share)], -1), tf.stack([upper, lower], -1)


def _log(beta: float) -> float:
    # exp(-1e4) is 0 even after one step, and stays finite where log(0) would not.
    return math.log(beta) if beta > 0 else -1e4
