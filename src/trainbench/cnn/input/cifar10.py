"""CIFAR-10 from its Python pickles."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow as tf

from trainbench.cnn.cluster import place_of
from trainbench.cnn.flags.params import Params
from trainbench.cnn.input import preprocessing
from trainbench.cnn.input.batches import Batch
from trainbench.cnn.input.imagenet import with_options
from trainbench.cnn.input.tfrecords import DataError

FILES = {
    "train": tuple(f"data_batch_{number}" for number in range(1, 6)),
    "validation": ("test_batch",),
}
ARCHIVE_FOLDER = "cifar-10-batches-py"
SIDE = 32
CLASSES = 10
MARGIN = 4
"""Black pixels on each side of a training image before its random crop."""


def batches(
    folder: Path, subset: str, params: Params, *, size: int, device_batch: int
) -> Iterator[Batch]:
    """Images float[device_batch, size, size, 3] in -1 to 1 and int32 labels, without end.

    Raises:
        DataError: (a ``ValueError``) files that are missing, or not CIFAR-10's.
    """
    pixels, labels = read(folder, subset)
    return batches_of(pixels, labels, subset, params, size=size, device_batch=device_batch)


def batches_of(
    pixels: Any, labels: Any, subset: str, params: Params, *, size: int, device_batch: int
) -> Iterator[Batch]:
    """The same from images uint8[n, 32, 32, 3] and labels int32[n] in memory."""
    dtype = "float16" if params.use_fp16 else "float32"
    distort = subset == "train" and params.distortions

    def prepare(index: Any, image: Any, label: Any) -> Batch:
        if distort:
            image = train_image(image, tf.random.fold_in((params.tf_random_seed, 0), index))
        image = tf.image.resize_with_crop_or_pad(image, size, size)
        return tf.cast(preprocessing.normalized(image), dtype), label

    pairs = tf.data.Dataset.from_tensor_slices((pixels, labels))
    if subset == "train":
        pairs = pairs.shuffle(len(labels), seed=params.tf_random_seed)
    # Each of several workers begins elsewhere, with a whole batch.
    first = int(len(labels) // device_batch * place_of(params)) * device_batch
    numbered = pairs.repeat().skip(first).enumerate()
    prepared = numbered.map(lambda index, pair: prepare(index, *pair), tf.data.AUTOTUNE)
    return iter(with_options(prepared.batch(device_batch, drop_remainder=True), params))


def train_image(image: Any, seed: Any) -> Any:
    """``image`` with a black margin, cropped to its size at random, and perhaps mirrored."""
    crop_seed, flip_seed = tf.unstack(tf.random.split(seed))
    image = tf.pad(image, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)))
    image = tf.image.stateless_random_crop(image, (SIDE, SIDE, 3), crop_seed)
    return tf.image.stateless_random_flip_left_right(image, flip_seed)


def read(folder: Path, subset: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Images uint8[n, 32, 32, 3] and labels int32[n].

    Raises:
        DataError: files that are missing, or not CIFAR-10's.
    """
    folder = _home(folder)
    parts = [_read_file(folder / name) for name in FILES[subset]]
    for name, (_, labels) in zip(FILES[subset], parts, strict=True):
        for fault in _wrong_labels(folder / name, labels):
            raise DataError(f"{fault}; download it again")
    pixels = np.concatenate([part[0] for part in parts])
    labels = np.concatenate([part[1] for part in parts])
    return pixels.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1), labels


def count(folder: Path, subset: str) -> int:
    """Images of ``subset`` in ``folder``.

    Raises:
        DataError: files that are missing, or not CIFAR-10's.
    """
    return len(read(folder, subset)[1])


def faults(folder: Path, subset: str) -> Iterator[str]:
    """What is wrong with the files of ``subset``, in words."""
    for name in FILES[subset]:
        file = _home(folder) / name
        try:
            yield from _wrong_labels(file, _read_file(file)[1])
        except DataError as error:
            yield str(error)


def _home(folder: Path) -> Path:
    inner = folder / ARCHIVE_FOLDER
    return inner if inner.is_dir() else folder


def _wrong_labels(file: Path, labels: Any) -> Iterator[str]:
    for number in np.flatnonzero((labels < 0) | (labels >= CLASSES)):
        yield f"{file}: image {number} has label {labels[number]}, wanted 0 to {CLASSES - 1}"


def _read_file(file: Path) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    if not file.is_file():
        raise DataError(f"Found no files in --data_dir matching: {file}")
    try:
        with file.open("rb") as stream:
            batch = _Unpickler(stream, encoding="bytes").load()
        pixels = np.asarray(batch[b"data"], np.uint8)
        labels = np.asarray(batch[b"labels"], np.int32)
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise DataError(
            f"{file}: not a batch of CIFAR-10 ({error!r}); download it again"
        ) from error
    if pixels.shape != (len(labels), 3 * SIDE * SIDE) or not len(labels):
        raise DataError(
            f"{file}: images of shape {pixels.shape} for {len(labels)} labels, wanted "
            f"({len(labels)}, {3 * SIDE * SIDE}); download it again"
        )
    return pixels, labels


class _Unpickler(pickle.Unpickler):
    """Reads NumPy arrays and nothing else: a pickle may name any function to call."""

    _ALLOWED: ClassVar[set[tuple[str, str]]] = {
        ("numpy", "ndarray"),
        ("numpy", "dtype"),
        ("numpy.core.multiarray", "_reconstruct"),
        ("numpy._core.multiarray", "_reconstruct"),
        ("_codecs", "encode"),
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)
