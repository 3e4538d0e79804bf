"""TensorBoard's event files: what is summarised at each verbosity, and how it is written.

Scalars at verbosity 1, gradients as well at 2, variables and images at 3. ``tf.summary`` needs the
tensorboard package since TensorFlow 2.21; TensorFlow itself brings the two protocol buffers.
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

from trainbench.cnn.flags.params import Params
from trainbench.cnn.train.evaluation import Accuracy
from trainbench.cnn.train.step import Step

_BINS = 30
_IMAGES = 3


class Summaries:
    """Summaries of one training in ``folder``."""

    def __init__(self, folder: str, params: Params, step: Step) -> None:
        self._params, self._step = params, step
        self._file = EventFile(folder)

    @classmethod
    def of(cls, params: Params, step: Step) -> Summaries | None:
        """The summaries that ``params`` ask for; none where nothing is trained."""
        asked = params.summary_verbosity and params.save_summaries_steps > 0 and step.optimizers
        return cls(params.train_dir, params, step) if asked and params.train_dir else None

    def add(
        self,
        global_step: int,
        results: dict[str, Any],
        learning_rate: float,
        gradients: list[Any],
        images: Any,
    ) -> None:
        """Summarise one training step: its results, applied gradients and the first images."""
        verbosity = self._params.summary_verbosity
        self._file.add(
            global_step,
            scalars=self._scalars(results, learning_rate),
            histograms=self._histograms(gradients) if verbosity >= 2 else None,
            images=_first(images) if verbosity >= 3 and images is not None else None,
        )

    def evaluated(self, global_step: int, accuracy: Accuracy) -> None:
        """Summarise an evaluation in between."""
        add_accuracy(self._file, global_step, accuracy)

    def _scalars(self, results: dict[str, Any], learning_rate: float) -> dict[str, float]:
        scalars = {name: float(value) for name, value in results.items() if name != "loss"}
        scalars["learning_rate"] = learning_rate
        scalars[self._params.loss_type_to_report] = float(results["loss"])
        scale = self._step.loss_scale
        if scale is not None:
            scalars["loss_scale"] = float(scale.value)
            if scale.every is not None:
                scalars["loss_scale_normal_steps"] = float(scale.good_steps)
        return scalars

    def _histograms(self, gradients: list[Any]) -> dict[str, np.ndarray]:
        arrays = [np.asarray(gradient, np.float32) for gradient in gradients]
        sizes = np.abs(np.concatenate([array.ravel() for array in arrays]))
        found = {"log_gradients": np.log(sizes[sizes > 0])}
        if self._params.summary_verbosity >= 3:
            names = self._step.network.names
            variables = self._step.copies[0].trainable
            for name, array, variable in zip(names, arrays, variables, strict=True):
                found[f"{name}/gradients"] = array
                found[name] = np.asarray(variable, np.float32)
        return found


def add_accuracy(file: EventFile, global_step: int, accuracy: Accuracy) -> None:
    """Write the accuracies of an evaluation."""
    scalars = {"eval/Accuracy@1": accuracy.top_1, "eval/Accuracy@5": accuracy.top_5}
    file.add(global_step, scalars=scalars)


def _first(images: Any) -> dict[str, np.ndarray]:
    """The first images, stretched to the whole range of a byte."""
    values = np.asarray(images[:_IMAGES], np.float32)
    low, high = values.min(), values.max()
    pixels = ((values - low) / max(high - low, 1e-9) * 255).astype(np.uint8)
    return {f"images/image/{index}": each for index, each in enumerate(pixels)}


class EventFile:
    """One growing event file in ``folder``."""

    def __init__(self, folder: str) -> None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        # TensorBoard finds files by "tfevents"; no host name, which is usual here but identifying.
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
