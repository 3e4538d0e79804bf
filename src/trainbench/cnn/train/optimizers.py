"""The update rules, with TensorFlow 1's semantics: its fused kernels, one operation a variable.

    sgd        v -= lr * g
    momentum   a = mu * a + g;  v -= lr * (g + mu * a)          Nesterov; lr is outside the velocity
    rmsprop    s = d * s + (1 - d) * g^2;  m = mu * m + lr * g / sqrt(s + eps);  v -= m    s0 = 1
    adam       v -= lr * sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(s) + eps)
    lars       r = c * |v| / (|g| + wd * |v| + eps);  a = mu * a + lr * r * (g + wd * v);  v -= a

Keras' own SGD folds the learning rate into the velocity, which differs after every change of the
rate, and its RMSprop starts s at 0. LARS: You, Gitman and Ginsburg 2017 (arXiv 1708.03888).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from trainbench.cnn.flags.params import ParamError, Params

Slots = dict[str, Any]
Update = Callable[[Params, Any, Slots, Any, Any, bool], None]
"""(params, variable, its slots, gradient, learning rate, whether L2 applies to it)."""


@dataclass(frozen=True)
class Rule:
    """An update rule and the initial value of each variable it keeps.

    Attributes:
        slots: name to initial value, of the variable's shape.
        powers: for numbers that all variables share and that are multiplied by a parameter after
            each step: name to the parameter, which is also the initial value.
        decays_itself: the rule has its own weight decay, so the loss gets no L2 term.
    """

    update: Update
    slots: dict[str, float]
    powers: dict[str, str]
    decays_itself: bool = False


class Optimizer:
    """One rule with its state for one copy of the variables."""

    def __init__(self, params: Params, variables: Sequence[Any], *, l2: Sequence[bool]) -> None:
        self._params, self.rule = params, rule(params)
        self._variables, self._l2 = list(variables), list(l2)
        with tf.device(self._variables[0].device):
            self._powers = {
                name: _variable(name, tf.constant(getattr(params, factor), tf.float32))
                for name, factor in self.rule.powers.items()
            }
        self.slots: list[Slots] = []
        for variable in self._variables:
            with tf.device(variable.device):
                filled = {
                    name: tf.fill(variable.shape, tf.cast(value, variable.dtype))
                    for name, value in self.rule.slots.items()
                }
                self.slots.append({name: _variable(name, value) for name, value in filled.items()})

    def apply(self, gradients: Sequence[Any], learning_rate: Any) -> None:
        """Change each variable by its gradient; ``learning_rate`` is a float32 scalar."""
        for variable, slots, gradient, l2 in zip(
            self._variables, self.slots, gradients, self._l2, strict=True
        ):
            state = {**slots, **self._powers}
            rate = tf.cast(learning_rate, variable.dtype)
            self.rule.update(self._params, variable, state, gradient, rate, l2)
        for name, power in self._powers.items():
            power.assign(power * getattr(self._params, self.rule.powers[name]))

    def state(self) -> dict[str, Any]:
        """Every variable that a checkpoint must hold, by a name of its own."""
        named = {f"{i}/{name}": v for i, s in enumerate(self.slots) for name, v in s.items()}
        return {**named, **self._powers}


def rule(params: Params) -> Rule:
    """The rule that ``--optimizer`` names.

    Raises:
        ParamError: there is no such rule.
    """
    try:
        return RULES[params.optimizer]
    except KeyError:
        raise ParamError(f'Optimizer "{params.optimizer}" was not recognized') from None


def _sgd(params: Params, variable: Any, slots: Slots, gradient: Any, rate: Any, l2: bool) -> None:
    tf.raw_ops.ResourceApplyGradientDescent(var=variable.handle, alpha=rate, delta=gradient)


def _momentum(
    params: Params, variable: Any, slots: Slots, gradient: Any, rate: Any, l2: bool
) -> None:
    tf.raw_ops.ResourceApplyMomentum(
        var=variable.handle,
        accum=slots["momentum"].handle,
        lr=rate,
        grad=gradient,
        momentum=tf.cast(params.momentum, variable.dtype),
        use_nesterov=True,
    )


def _rmsprop(
    params: Params, variable: Any, slots: Slots, gradient: Any, rate: Any, l2: bool
) -> None:
    tf.raw_ops.ResourceApplyRMSProp(
        var=variable.handle,
        ms=slots["mean_square"].handle,
        mom=slots["momentum"].handle,
        lr=rate,
        rho=tf.cast(params.rmsprop_decay, variable.dtype),
        momentum=tf.cast(params.rmsprop_momentum, variable.dtype),
        epsilon=tf.cast(params.rmsprop_epsilon, variable.dtype),
        grad=gradient,
    )


def _adam(params: Params, variable: Any, slots: Slots, gradient: Any, rate: Any, l2: bool) -> None:
    tf.raw_ops.ResourceApplyAdam(
        var=variable.handle,
        m=slots["mean"].handle,
        v=slots["mean_square"].handle,
        beta1_power=tf.cast(slots["beta1_power"], variable.dtype),
        beta2_power=tf.cast(slots["beta2_power"], variable.dtype),
        lr=rate,
        beta1=tf.cast(params.adam_beta1, variable.dtype),
        beta2=tf.cast(params.adam_beta2, variable.dtype),
        epsilon=tf.cast(params.adam_epsilon, variable.dtype),
        grad=gradient,
    )


def _lars(params: Params, variable: Any, slots: Slots, gradient: Any, rate: Any, l2: bool) -> None:
    # Biases and batch normalisation are small and would get a ratio of noise: plain momentum.
    if l2:
        decay, norm, slope = params.weight_decay or 0.0, tf.norm(variable), tf.norm(gradient)
        divisor = slope + decay * norm + params.lars_epsilon
        safe = tf.logical_and(norm > 0, divisor > 0)
        ratio = tf.where(safe, params.lars_coefficient * norm / tf.where(safe, divisor, 1), 1.0)
        gradient, rate = gradient + decay * variable, rate * ratio
    velocity = slots["momentum"].assign(params.momentum * slots["momentum"] + rate * gradient)
    variable.assign_sub(velocity)


RULES = {
    "sgd": Rule(_sgd, {}, {}),
    "momentum": Rule(_momentum, {"momentum": 0.0}, {}),
    "rmsprop": Rule(_rmsprop, {"mean_square": 1.0, "momentum": 0.0}, {}),
    "adam": Rule(
        _adam,
        {"mean": 0.0, "mean_square": 0.0},
        {"beta1_power": "adam_beta1", "beta2_power": "adam_beta2"},
    ),
    "lars": Rule(_lars, {"momentum": 0.0}, {}, decays_itself=True),
}


def _variable(name: str, value: Any) -> Any:
    return tf.Variable(value, trainable=False, name=name)
