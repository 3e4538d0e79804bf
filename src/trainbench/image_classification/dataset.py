"""A converted cache as the harness's data set, and the models for images of 32 pixels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trainbench.cnn.flags.params import Params
from trainbench.cnn.input import cifar10, datasets
from trainbench.cnn.models import registry, resnet
from trainbench.cnn.models.spec import CnnModel
from trainbench.image_classification import convert

SIDE = 32
# ResNet v1.5 as for ImageNet, with fewer blocks: its first layers suit images of 32 pixels less
# than CIFAR's own networks do, but every line of a ResNet log has something to say.
SMALL = {
    name: CnnModel(name, SIDE, 64, 0.05, resnet.resnet("v1.5", counts))
    for name, counts in {"resnet14_v1.5": (1, 1, 1, 1), "resnet26_v1.5": (2, 2, 2, 2)}.items()
}


@dataclass(frozen=True)
class Cached:
    """Images of 32 pixels from a cache of ``convert``."""

    name: str
    folder: Path
    counts: dict[str, int]
    num_classes: int = 11
    is_synthetic: bool = False

    def num_examples_per_epoch(self, subset: str = "train") -> int:
        """Images of ``subset``, train or validation."""
        return self.counts[subset]

    def batches(self, subset: str, params: Params, *, batch_size: int) -> Iterator[Any]:
        """Images float[batch_size, 32, 32, 3] in -1 to 1 and int32 labels, without end."""
        pixels = np.load(self.folder / f"{subset}_images.npy")
        labels = np.load(self.folder / f"{subset}_labels.npy")
        return cifar10.batches_of(
            pixels, labels, subset, params, size=SIDE, device_batch=batch_size
        )


def opened(folder: Path, image_size: int) -> Any:
    """The data set of the cache in ``folder``."""
    record = convert.read_record(folder)
    if record["dataset"] == "imagenet":
        return datasets.Dataset("imagenet", image_size, Path(record["folder"]))
    return Cached(record["dataset"], folder, record["counts"])


def model(name: str, dataset: str) -> Any:
    """The model called ``name``: one of ``SMALL``, or the harness's own for the data set."""
    if name in SMALL:
        return SMALL[name]
    return registry.get_model(name, "imagenet" if dataset == "imagenet" else "cifar10")
