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
from trainbench.image_classification.source import SUBSETS

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
    num_classes: int = 11
    is_synthetic: bool = False

    def num_examples_per_epoch(self, subset: str = "train") -> int:
        """Images of ``subset``, train or validation."""
        return len(self._labels(subset))

    def partial(self) -> str | None:
        """What the cache lacks of the published data set, in words."""
        counts = {subset: self.num_examples_per_epoch(subset) for subset in SUBSETS}
        return datasets.partial(self.name, counts)

    def constant_top_1(self) -> float:
        """The accuracy of one answer for all validation images: the largest class's share."""
        labels = self._labels("validation")
        return int(np.bincount(labels).max()) / len(labels)

    def _labels(self, subset: str) -> Any:
        return np.load(self.folder / f"{subset}_labels.npy", mmap_mode="r")

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
        counts = dict(record["counts"])
        return datasets.Dataset("imagenet", image_size, Path(record["folder"]), counted=counts)
    return Cached(record["dataset"], folder)


def model(name: str, dataset: str) -> Any:
    """The model called ``name``: one of ``SMALL``, or the harness's own for the data set."""
    if name in SMALL:
        return SMALL[name]
    return registry.get_model(name, "imagenet" if dataset == "imagenet" else "cifar10")
