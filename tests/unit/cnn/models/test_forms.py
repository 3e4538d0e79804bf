"""Forms of layers for a CPU: where they are used, and that they compute the same."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from trainbench import cnn
from trainbench.cnn.models import forms
from trainbench.cnn.models.layers import Conv, Kernel, Norm


@pytest.mark.parametrize("devices", [["/gpu:0"], ["/cpu:0", "/job:worker/task:1/device:GPU:0"]])
def test_a_network_on_a_gpu_has_no_form_of_a_cpu(devices: list[str]) -> None:
    assert forms.of(devices) == ()


@pytest.mark.parametrize("devices", [["/cpu:0"], ["/cpu:0", "/job:worker/task:1/device:CPU:0"]])
def test_a_network_on_cpus_has_them(devices: list[str]) -> None:
    assert forms.of(devices) == (forms.FOLDED,)


@pytest.mark.parametrize("form", [(), (forms.FOLDED,)])
@pytest.mark.parametrize("activation", [None, "relu", "relu6"])
@pytest.mark.parametrize("depthwise", [False, True])
def test_a_folded_normalization_in_16_bits_is_the_plain_one_within_bfloat16(
    form: tuple[str, ...], activation: str | None, depthwise: bool
) -> None:
    rng = np.random.default_rng(7)
    norm = Norm(epsilon=1e-5, scale=True)
    setup = Kernel(6, (3, 3), activation=activation, depthwise=depthwise)
    exact = Conv(setup, norm)
    with forms.chosen(form):
        half = Conv(setup, norm, dtype="mixed_bfloat16")
    images = rng.normal(size=(2, 5, 5, 4)).astype(np.float32)
    exact(images)
    half(images)
    for variable, other in zip(exact.variables, half.variables, strict=True):
        if variable is not exact.kernel:
            variable.assign(rng.uniform(0.5, 2, variable.shape))
        other.assign(variable)
    wanted = exact(images, training=False).numpy()
    # A bfloat16 has 8 bits of mantissa; weights, images and outputs are each rounded to it.
    tolerance = 3 * 2**-8 * float(np.abs(wanted).max())
    np.testing.assert_allclose(
        tf.cast(half(images, training=False), tf.float32), wanted, atol=tolerance
    )


def test_forward_passes_in_16_bits_normalize_in_the_weights_and_never_widen_a_rounded_one() -> None:
    params = cnn.make_params(
        device="cpu", model="resnet20", data_name="cifar10", batch_size=2, use_bf16=True,
        forward_only=True,
    )  # fmt: skip
    session = cnn.BenchmarkCNN(params).build()
    _, graph = session.executor.frozen(session.batches("train").next())
    operations = graph.get_operations()
    assert not [each.name for each in operations if "BatchNorm" in each.type]
    # A constant that becomes larger is not computed beforehand, and its filter is then reordered
    # in every step.
    kernels = {v.shape for v in session.step.copies[0].trainable if len(v.shape) == 4}
    widened = [
        each.name
        for each in operations
        if each.type == "Cast"
        and each.inputs[0].dtype == tf.bfloat16
        and each.outputs[0].shape in kernels
    ]
    assert widened == []


def test_layers_that_are_made_outside_of_a_run_have_the_plain_form() -> None:
    assert Conv(Kernel(6, (3, 3))).forms == ()
    with forms.chosen((forms.FOLDED,)):
        assert Conv(Kernel(6, (3, 3))).forms == (forms.FOLDED,)
