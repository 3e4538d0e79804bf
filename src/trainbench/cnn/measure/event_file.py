"""TensorBoard event files, written without TensorBoard.

``tf.summary`` needs the tensorboard package since TensorFlow 2.21; the records themselves are two
protocol buffers that TensorFlow brings along.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import summary_pb2
from tensorflow.core.util import event_pb2

_BINS = 30


class EventFile:
    """One growing event file in ``folder``."""

    def __init__(self, folder: str) -> None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        # TensorBoard finds files by "tfevents"; a host's name, usual here, is nobody's business.
        name = f"events.out.tfevents.{time.time_ns()}.trainbench"
        self._writer = tf.io.TFRecordWriter(str(Path(folder) / name))
        self._write(event_pb2.Event(wall_time=time.time(), file_version="brain.Event:2"))

    def add(
        self,
        step: int,
        *,
        scalars: Mapping[str, float] | None = None,
        histograms: Mapping[str, Any] | None = None,
        images: Mapping[str, Any] | None = None,
    ) -> None:
        """Write one record: numbers, arrays as histograms, uint8[height, width, 3] images."""
        summary = summary_pb2.Summary()
        for tag, value in (scalars or {}).items():
            summary.value.add(tag=tag, simple_value=float(value))
        for tag, values in (histograms or {}).items():
            summary.value.add(tag=tag, histo=histogram(np.asarray(values, np.float64).ravel()))
        for tag, pixels in (images or {}).items():
            summary.value.add(tag=tag, image=_image(np.asarray(pixels)))
        self._write(event_pb2.Event(wall_time=time.time(), step=step, summary=summary))

    def close(self) -> None:
        """Finish the file."""
        self._writer.close()

    def _write(self, event: Any) -> None:
        self._writer.write(event.SerializeToString())
        self._writer.flush()


def histogram(values: np.ndarray) -> Any:
    """The distribution of the finite ``values``, in bins of equal width."""
    values = values[np.isfinite(values)]
    if not len(values):
        return summary_pb2.HistogramProto()
    counts, edges = np.histogram(values, bins=_BINS)
    return summary_pb2.HistogramProto(
        min=values.min(),
        max=values.max(),
        num=len(values),
        sum=values.sum(),
        sum_squares=np.square(values).sum(),
        bucket_limit=edges[1:],
        bucket=counts,
    )


def _image(pixels: np.ndarray) -> Any:
    height, width, channels = pixels.shape
    return summary_pb2.Summary.Image(
        height=height,
        width=width,
        colorspace=channels,
        encoded_image_string=tf.io.encode_png(pixels).numpy(),
    )
