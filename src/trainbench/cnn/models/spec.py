"""What is known about a model before it is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
from keras.src.backend.common import global_state

from trainbench.cnn.models.net import Net, Tensor
from trainbench.cnn.models.rates import ModelRate

Body = Callable[[Net, Tensor], Tensor]
"""From images to features: everything but the last dense layer."""


@dataclass(frozen=True)
class CnnModel:
    """One entry of the registry.

    Attributes:
        image_size: pixels of each side of its square images.
        default_batch_size: per device.
        default_learning_rate: where neither the user nor ``learning_rate_fn`` gives one; for
            ResNet on ImageNet, the rate at 256 images.
        learning_rate_fn: ``(global_step, global_batch, num_examples, peak=None) -> rate``, or
            ``None`` for a constant rate.
        scales_rate: whether ``--resnet_base_lr`` and the number of devices change its rate.
        fp16_loss_scale: where the user gives none.
    """

    name: str
    image_size: int
    default_batch_size: int
    default_learning_rate: float
    body: Body
    learning_rate_fn: ModelRate | None = None
    scales_rate: bool = False
    fp16_loss_scale: float = 128.0

    def build(self, num_classes: int, *, data_format: str = "channels_last") -> keras.Model:
        """The network under Keras' current dtype policy.

        Images go in as [batch, image_size, image_size, 3] whatever the ``data_format``, which is
        the layout inside; float32 logits [batch, num_classes] come out.
        """
        net = Net(data_format)
        inputs, images = net.images(self.image_size)
        logits = net.logits(self.body(net, images), num_classes)
        return keras.Model(inputs, logits, name=self.name.replace(".", "_").replace(":", "_"))


def build_shape_only(model: Any, num_classes: int) -> keras.Model:
    """``model`` built without memory for its weights: for counting and for drawing."""
    with keras.StatelessScope(initialize_variables=False):
        built: keras.Model = model.build(num_classes)
    # Keras would give them their values at the end of whatever stateless scope comes next.
    global_state.set_global_attribute("uninitialized_variables", [])
    return built
