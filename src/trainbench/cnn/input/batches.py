"""Batches for each device, step by step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import tensorflow as tf

from trainbench.cnn.flags.params import Params

Batch = tuple[Any, Any]
"""Images and labels for one device."""


class Dataset(Protocol):
    """What the harness asks of a dataset; subsets are ``train`` and ``validation``."""

    name: str
    num_classes: int

    def num_examples_per_epoch(self, subset: str = "train") -> int:
        """Images of ``subset``."""

    def batches(self, subset: str, params: Params, *, batch_size: int) -> Iterator[Batch]:
        """Images and int32 labels, ``batch_size`` at a time, without end."""


def is_synthetic(dataset: Any) -> bool:
    """Whether images are made on the device instead of read."""
    return bool(getattr(dataset, "is_synthetic", False))


@dataclass(frozen=True)
class Source:
    """One subset of a dataset, in batches of ``device_batch`` images."""

    dataset: Dataset
    subset: str
    device_batch: int

    def open(self, params: Params) -> Iterator[Batch]:
        """The batches from their start, or from the place of ``params``' worker in the data."""
        return iter(self.dataset.batches(self.subset, params, batch_size=self.device_batch))


class Batches:
    """The input of a run: consecutive batches of ``source`` go to consecutive devices."""

    def __init__(self, source: Source, params: Params, devices: Sequence[str]) -> None:
        self._devices, self._sources = devices, []
        if not is_synthetic(source.dataset):
            self._sources = [source.open(params)] * len(devices)
            return
        for device in devices:
            # Made where it is used: no copy from the host is part of the measurement.
            with tf.device(device):
                self._sources.append(source.open(params))

    def next(self) -> list[Batch]:
        """One batch for each device.

        Raises:
            RuntimeError: the input has ended, or could not be read.
        """
        batches = []
        for device, source in zip(self._devices, self._sources, strict=True):
            try:
                with tf.device(device):
                    batches.append(next(source))
            except StopIteration:
                raise RuntimeError("the input ended before the run did") from None
            except tf.errors.OutOfRangeError as error:
                raise RuntimeError(f"the input ended before the run did: {error}") from error
        return batches
