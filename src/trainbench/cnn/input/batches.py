"""Batches for each device, step by step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import tensorflow as tf

from trainbench.cnn.flags.params import Params

Batch = tuple[Any, Any]


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


class Batches:
    """The input of one subset: consecutive batches go to consecutive devices."""

    def __init__(
        self,
        dataset: Dataset,
        subset: str,
        params: Params,
        *,
        batch_size: int,
        devices: Sequence[str],
    ) -> None:
        self._devices = devices
        if is_synthetic(dataset):
            # Made where it is used: no copy from the host is part of the measurement.
            self._sources = [
                self._opened(dataset, subset, params, batch_size, device) for device in devices
            ]
        else:
            source = iter(dataset.batches(subset, params, batch_size=batch_size))
            self._sources = [source] * len(devices)

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

    @staticmethod
    def _opened(
        dataset: Dataset, subset: str, params: Params, batch_size: int, device: str
    ) -> Iterator[Batch]:
        with tf.device(device):
            return iter(dataset.batches(subset, params, batch_size=batch_size))
