"""Claims about Adam and about the closed form of its steps without a gradient."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from trainbench.ncf.config import mlperf, reference
from trainbench.ncf.optimizer import EARLY_STEPS, TOLERANCE, Adam, CatchUp, catch_up

REFERENCE = Adam.of(reference())
MLPERF = Adam.of(mlperf())
# Public v0.5 runs with other betas: ratios far from 1, where two points are not enough.
INTEL = Adam(0.003821, 0.783529, 0.909003, 1.45439e-7)


def dense_steps(adam: Adam, last: int, steps: int, state: np.ndarray) -> np.ndarray:
    """Value, m, v [3, n] in float64 after ``steps`` written-out steps with gradient 0."""
    value, m, v = state.astype(np.float64)
    for step in range(last + 1, last + steps + 1):
        m, v = adam.beta1 * m, adam.beta2 * v
        denominator = np.sqrt(v) / np.sqrt(1 - adam.beta2**step) + adam.epsilon
        value = value - adam.learning_rate / (1 - adam.beta1**step) * m / denominator
    return np.stack([value, m, v])


def rows_of_every_size(adam: Adam, count: int) -> np.ndarray:
    """Value, m, v [3, count] with sqrt(v) from far below epsilon to far above, and some zeros."""
    rng = np.random.default_rng(0)
    root = adam.epsilon * np.logspace(-4, 6, count)
    m = root * rng.uniform(-3, 3, count)
    state = np.stack([rng.normal(0, 0.01, count), m, root**2])
    state[1:, ::10] = 0
    return state.astype(np.float32)


@pytest.fixture(scope="module")
def closed_forms() -> dict[Adam, CatchUp]:
    return {adam: CatchUp(adam) for adam in (REFERENCE, MLPERF, INTEL)}


@pytest.mark.parametrize("adam", [REFERENCE, MLPERF, INTEL], ids=["reference", "mlperf", "intel"])
def test_closed_form_equals_written_out_steps(
    closed_forms: dict[Adam, CatchUp], adam: Adam
) -> None:
    gaps = [(1, 0), (1, 1), (1, 40), (3, 400), (20, 7), (127, 90), (128, 3), (5_000, 1_000)]
    state = rows_of_every_size(adam, 200)
    last, steps = (np.array(part, np.int32) for part in zip(*gaps, strict=True))
    rows = [tf.constant(np.repeat(part[None], len(gaps), axis=0)) for part in state]
    value, m, v = closed_forms[adam].rows(tf.constant(last), tf.constant(steps), tuple(rows))
    for row, (t0, k) in enumerate(gaps):
        expected = dense_steps(adam, t0, k, state)
        moved = np.abs(expected[0] - state[0])
        rounding = 2e-7 * np.abs(state[0])
        assert np.all(np.abs(value[row] - expected[0]) <= 2 * TOLERANCE * moved + rounding)
        np.testing.assert_allclose(m[row], expected[1], rtol=1e-5, atol=1e-37)
        np.testing.assert_allclose(v[row], expected[2], rtol=1e-5, atol=1e-37)


def test_rows_that_never_had_a_gradient_stay_as_they_are(
    closed_forms: dict[Adam, CatchUp],
) -> None:
    value, zeros = tf.constant([[0.5, -0.25]]), tf.zeros([1, 2])
    for last in (0, 100):
        state = (value, zeros, zeros)
        after = closed_forms[REFERENCE].rows(tf.constant([last]), tf.constant([1_000]), state)
        for found, expected in zip(after, state, strict=True):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("adam", [REFERENCE, MLPERF, INTEL], ids=["reference", "mlperf", "intel"])
def test_rules_error_is_within_its_tolerance(closed_forms: dict[Adam, CatchUp], adam: Adam) -> None:
    closed_form = closed_forms[adam]
    assert closed_form.error(first_step=1, cuts=closed_form.early_cuts) <= TOLERANCE
    assert closed_form.error(first_step=EARLY_STEPS, cuts=closed_form.late_cuts) <= TOLERANCE


def test_two_points_are_enough_for_the_presets_after_the_first_steps(
    closed_forms: dict[Adam, CatchUp],
) -> None:
    assert closed_forms[REFERENCE].late_cuts == closed_forms[MLPERF].late_cuts == ()


@pytest.mark.parametrize(("beta1", "beta2"), [(0.9, 0.9), (0.0, 0.999), (0.9, 0.99999)])
def test_betas_without_a_closed_form_are_told_apart(beta1: float, beta2: float) -> None:
    assert catch_up(Adam(1e-3, beta1, beta2, 1e-8)) is None


def test_a_step_is_pytorchs_adam() -> None:
    rng = np.random.default_rng(1)
    value, m, v, grad = rng.normal(0, 1, (4, 50))
    v = v**2
    new_m, new_v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad**2
    denominator = np.sqrt(new_v) / np.sqrt(1 - 0.999**7) + 1e-8
    expected = value - 5e-4 / (1 - 0.9**7) * new_m / denominator
    inputs = [tf.constant(x, tf.float32) for x in (value, m, v, grad)]
    found = REFERENCE.update(REFERENCE.now(tf.constant(7)), *inputs)
    for tensor, array in zip(found, (expected, new_m, new_v), strict=True):
        np.testing.assert_allclose(tensor, array, rtol=1e-5, atol=1e-7)
