"""PyTorch's ResNet-50 computes what ours computes: from our weights, the same logits and loss."""

from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

from trainbench.bench.cnn import as_if_trained
from trainbench.cnn.benchmark import BenchmarkCNN
from trainbench.cnn.flags.params import make_params
from trainbench.cnn.models import layers
from trainbench.cnn.models.net import Net
from trainbench.cnn.session import Session

STEPS, BATCH, RATE, LOGITS = 3, 4, 0.001, 1e-3


def convolutions(model: Any) -> list[np.ndarray]:
    """Kernels in the order in which the network was written down."""
    found = [layer for layer in model.layers if isinstance(layer, layers.Conv)]
    found.sort(key=lambda layer: int((re.findall(r"\d+$", layer.name) or ["0"])[0]))
    return [layer.kernel.numpy() for layer in found]


def softplus_for_every_rectifier(monkeypatch: pytest.MonkeyPatch) -> None:
    """In both: its gradient has no jump that rounding could put on either side."""
    import torch

    monkeypatch.setitem(layers._ACTIVATIONS, "relu", tf.nn.softplus)
    monkeypatch.setattr(Net, "relu", lambda self, x: keras.layers.Activation("softplus")(x))
    monkeypatch.setattr(torch, "relu", torch.nn.functional.softplus)


def ours() -> tuple[Session, Any]:
    """ResNet-50's session, its normalizations as if trained, and PyTorch's with its weights."""
    from trainbench.bench.peers import torch_cnn

    params = make_params(
        device="cpu", weight_decay=0, model="resnet50", batch_size=BATCH, optimizer="momentum"
    )
    session = BenchmarkCNN(params).build()
    model, network = session.network.model, torch_cnn.ResNet()
    as_if_trained(session.network.named(session.step.copies[0]))
    torch_cnn.as_if_trained(network)
    kernel, bias = (variable.numpy() for variable in model.trainable_variables[-2:])
    network.take(convolutions(model), kernel, bias)
    return session, network


def turned(images: Any) -> Any:
    import torch

    return torch.from_numpy(np.ascontiguousarray(images.numpy().transpose(0, 3, 1, 2)))


def require_equal_logits(session: Session, network: Any, images: Any) -> None:
    """In inference, which takes the statistics that training left."""
    import torch

    with torch.no_grad():
        found = network.eval()(turned(images)).numpy()
    expected = session.network.model(images, training=False).numpy()
    scale = float(np.abs(expected).max())
    assert found == pytest.approx(expected, rel=LOGITS, abs=LOGITS * scale)


def test_pytorchs_resnet_has_our_logits_and_the_loss_of_our_first_step() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from trainbench.bench.peers.torch_cnn import Training

    session, network = ours()
    [(images, labels)] = session.batches("train").next()
    require_equal_logits(session, network, images)
    trainer = Training(network, bf16=False, compiled=False, rate=RATE)
    expected = float(session.executor.train([(images, labels)], tf.constant(RATE))["loss"])
    truth = torch.from_numpy(labels.numpy().astype(np.int64))
    assert float(trainer.step(turned(images), truth)) == pytest.approx(expected, rel=1e-5)


def test_without_the_rectifiers_jump_every_later_loss_and_the_statistics_are_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from trainbench.bench.peers.torch_cnn import Training

    softplus_for_every_rectifier(monkeypatch)
    session, network = ours()
    trainer = Training(network, bf16=False, compiled=False, rate=RATE)
    source = session.batches("train")
    for _ in range(STEPS):
        [(images, labels)] = source.next()
        expected = float(session.executor.train([(images, labels)], tf.constant(RATE))["loss"])
        truth = torch.from_numpy(labels.numpy().astype(np.int64))
        assert float(trainer.step(turned(images), truth)) == pytest.approx(expected, rel=1e-5)
    require_equal_logits(session, network, images)
