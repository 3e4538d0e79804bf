"""Convolution and batch normalization, each one fused operation of TensorFlow.

Keras 3 composes both from elementwise operations, which on a CPU costs a pass over the images for
each. A convolution owns its normalization here, so that inference folds one into the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from trainbench.cnn.models import forms

Pair = tuple[int, int]


@dataclass(frozen=True)
class Norm:
    """How a batch normalization is set up.

    Attributes:
        decay: of the moving statistics, per step.
        scale: whether it has a trainable factor (gamma) beside the offset (beta).
    """

    decay: float = 0.999
    epsilon: float = 0.001
    scale: bool = False


class BatchNorm(keras.layers.Layer):
    """Batch normalization in float32, whatever the policy of the model.

    The moving variance takes the unbiased variance of a batch, as TensorFlow's fused operation
    always has; ``keras.layers.BatchNormalization`` takes the biased one.
    """

    def __init__(self, norm: Norm, *, data_format: str, relu: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.setup, self.data_format, self.relu = norm, data_format, relu

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the variables; called by Keras."""
        channels = input_shape[_channel_axis(self.data_format)]
        self.gamma = self._weight("gamma", channels, "ones") if self.setup.scale else None
        self.beta = self._weight("beta", channels, "zeros")
        self.moving_mean = self._weight("moving_mean", channels, "zeros", trainable=False)
        self.moving_variance = self._weight("moving_variance", channels, "ones", trainable=False)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Normalized ``inputs``; training uses, and folds in, the statistics of the batch."""
        beta = self.beta.value
        outputs = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=tf.ones_like(beta) if self.gamma is None else self.gamma.value,
            offset=beta,
            mean=self.moving_mean.value,
            variance=self.moving_variance.value,
            epsilon=self.setup.epsilon,
            exponential_avg_factor=1 - self.setup.decay,
            data_format=_tf_format(self.data_format),
            is_training=bool(training),
        )
        if training:
            self.moving_mean.assign(outputs.batch_mean)
            self.moving_variance.assign(outputs.batch_variance)
        return tf.nn.relu(outputs.y) if self.relu else outputs.y

    def folded(self) -> tuple[Any, Any]:
        """Factor and offset, float32[channels], that inference applies to its input."""
        factor = tf.math.rsqrt(self.moving_variance.value + self.setup.epsilon)
        if self.gamma is not None:
            factor *= self.gamma.value
        return factor, self.beta.value - self.moving_mean.value * factor

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        """The shape of the input."""
        return input_shape

    def _weight(self, name: str, size: int | None, start: str, trainable: bool = True) -> Any:
        return self.add_weight(
            name=name,
            shape=(size,),
            initializer=start,
            trainable=trainable,
            dtype="float32",
            autocast=False,
        )


@dataclass(frozen=True)
class Kernel:
    """What a convolution is, apart from its normalization.

    Attributes:
        size: height and width.
        padding: ``same``, ``valid``, or ``centered``: as ``same``, but with a stride the zeros
            are split evenly whatever the size of the image (the padding of ResNet).
        bias: where the bias starts; ``None``: there is none.
        activation: ``relu``, ``relu6`` or ``None``.
        initializer: of the weights; ``None``: variance scaling by the inputs.
        depthwise: one filter for each channel; ``filters`` is then not used.
    """

    filters: int
    size: Pair
    strides: int = 1
    padding: str = "same"
    bias: float | None = None
    activation: str | None = "relu"
    initializer: Any = None
    depthwise: bool = False
    data_format: str = "channels_last"


class Conv(keras.layers.Layer):
    """A convolution with its bias or its batch normalization, and its activation."""

    def __init__(self, setup: Kernel, norm: Norm | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.setup, self.forms = setup, forms.current()
        if norm is None:
            self.norm = None
        else:
            self.norm = BatchNorm(norm, data_format=setup.data_format, name="norm")

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Make the variables; called by Keras."""
        setup = self.setup
        channels = input_shape[_channel_axis(setup.data_format)]
        ends = (channels, 1) if setup.depthwise else (channels, setup.filters)
        start = setup.initializer or keras.initializers.VarianceScaling(1.0, "fan_in")
        # Cast where it is used: folded in float32 first, TensorFlow computes a constant only once.
        self.kernel = self.add_weight(
            name="kernel", shape=(*setup.size, *ends), initializer=start, autocast=False
        )
        self.bias = None
        if setup.bias is not None and self.norm is None:
            start = keras.initializers.Constant(setup.bias)
            self.bias = self.add_weight(name="bias", shape=(setup.filters,), initializer=start)
        if self.norm is not None:
            self.norm.build(self.compute_output_shape(input_shape))

    def call(self, inputs: Any, training: bool = False) -> Any:
        """The convolved ``inputs``."""
        weights, activation = self.kernel.value, _ACTIVATIONS[self.setup.activation]
        kernel = tf.cast(weights, self.compute_dtype)
        if self.norm is None:
            offset = None if self.bias is None else self.bias.value
            return activation(self._shifted(inputs, kernel, offset))
        if training:
            inputs, padding = self._padded(inputs)
            return activation(self.norm(self._convolved(inputs, kernel, padding), training=True))
        folds = forms.FOLDED in self.forms and kernel.dtype != tf.float32
        if self.setup.activation == "relu" and not folds:
            # TensorFlow makes one operation of these three; in 16 bits on a CPU it does not.
            return activation(self.norm(self._convolved(inputs, kernel)))
        # It makes one of a convolution, a bias and a sum, but of no sum after a normalization.
        factor, offset = self.norm.folded()
        factor = factor[:, tf.newaxis] if self.setup.depthwise else factor
        folded = tf.cast(tf.cast(weights, tf.float32) * factor, kernel.dtype)
        return activation(self._shifted(inputs, folded, tf.cast(offset, kernel.dtype)))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> Any:
        """What comes out, known without tracing ``call``."""
        setup = self.setup
        channel_axis = _channel_axis(setup.data_format)
        filters = input_shape[channel_axis] if setup.depthwise else setup.filters
        lengths = (n for i, n in enumerate(input_shape) if i not in (0, channel_axis))
        sides = [_side(n, k, setup) for n, k in zip(lengths, setup.size, strict=True)]
        return _ordered([input_shape[0], *sides, filters], setup.data_format)

    def _shifted(self, inputs: Any, kernel: Any, offset: Any) -> Any:
        outputs = self._convolved(inputs, kernel)
        if offset is None:
            return outputs
        return tf.nn.bias_add(outputs, offset, data_format=_tf_format(self.setup.data_format))

    def _padded(self, inputs: Any) -> tuple[Any, Any]:
        """``inputs`` with the zeros of a centered padding, and the padding that is left.

        oneDNN has no backward pass for a convolution that pads by itself in this way, and the
        other one takes twice as long.
        """
        padding = self._padding()
        return (inputs, padding) if isinstance(padding, str) else (tf.pad(inputs, padding), "VALID")

    def _padding(self) -> Any:
        setup = self.setup
        if setup.padding != "centered":
            return setup.padding.upper()
        return "SAME" if setup.strides == 1 else _centered_padding(setup)

    def _convolved(self, inputs: Any, kernel: Any, padding: Any = None) -> Any:
        setup = self.setup
        strides = _ordered([1, setup.strides, setup.strides, 1], setup.data_format)
        padding = self._padding() if padding is None else padding
        convolve = tf.nn.depthwise_conv2d if setup.depthwise else tf.nn.conv2d
        data_format = _tf_format(setup.data_format)
        return convolve(inputs, kernel, strides, padding, data_format=data_format)


def batch_norm_variables(model: keras.Model) -> set[str]:
    """Paths of the variables that belong to a batch normalization of any kind."""
    kinds = (BatchNorm, keras.layers.BatchNormalization)
    norms = [layer for layer in model._flatten_layers() if isinstance(layer, kinds)]
    return {variable.path for layer in norms for variable in layer.variables}


_ACTIVATIONS = {None: tf.identity, "relu": tf.nn.relu, "relu6": tf.nn.relu6}


def _channel_axis(data_format: str) -> int:
    return 3 if data_format == "channels_last" else 1


def _tf_format(data_format: str) -> str:
    return "NHWC" if data_format == "channels_last" else "NCHW"


def _ordered(nhwc: list[Any], data_format: str) -> tuple[Any, ...]:
    """Four values, one for each dimension, in the order of ``data_format``."""
    batch, height, width, channels = nhwc
    if data_format == "channels_last":
        return batch, height, width, channels
    return batch, channels, height, width


def _centered_padding(setup: Kernel) -> Any:
    sides = [[(k - 1) // 2, k // 2] for k in setup.size]
    return list(_ordered([[0, 0], *sides, [0, 0]], setup.data_format))


def _side(length: int | None, kernel: int, setup: Kernel) -> int | None:
    if length is None:
        return None
    if setup.padding == "valid":
        length -= kernel - 1
    return -(-length // setup.strides)
