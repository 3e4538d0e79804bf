"""ImageNet from TFRecord files, through tf.data."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf

from trainbench.cnn.cluster import place_of
from trainbench.cnn.flags.params import Params
from trainbench.cnn.input import preprocessing, tfrecords
from trainbench.cnn.input.batches import Batch
from trainbench.cnn.input.faults import damage
from trainbench.cnn.input.preprocessing import ImageOptions
from trainbench.cnn.threads import Threads

SHUFFLE_BUFFER = 10_000
"""Encoded images among which the next one is drawn."""
FILES_AT_A_TIME = 10
FILES = {"train": 1024, "validation": 128}
"""Files of each published subset."""
LEAST_BYTES = 80_000
"""Of an image, on average, in files that can be the whole set; published ones have 110,000."""


def batches(
    folder: Path, subset: str, params: Params, *, size: int, device_batch: int
) -> Iterator[Batch]:
    """Images float[device_batch, size, size, 3] and labels int32[device_batch], without end.

    Raises:
        DataError: (a ``ValueError``) no files; while the batches are read, a damaged record, with
            its file and offset.
    """
    files = tfrecords.files(folder, subset)
    pipeline = dataset(files, subset, params, size=size, device_batch=device_batch)
    return _reported(pipeline, files)


def count(folder: Path, subset: str, *, published: int) -> int:
    """Images of ``subset`` in ``folder``.

    The whole set, by the names and the size of its files, is taken at its ``published`` number: a
    million headers of records take minutes to read from a slow disk. ``tfrecords.count`` counts.

    Raises:
        DataError: no files, or one that ends within a record.
    """
    files = tfrecords.files(folder, subset)
    parts = FILES[subset]
    names = {f"{subset}-{part:05d}-of-{parts:05d}" for part in range(parts)}
    if names == {file.name for file in files}:
        stored = sum(file.stat().st_size for file in files)
        if stored >= published * LEAST_BYTES:
            return published
    return tfrecords.count(files)


def dataset(
    files: list[Path], subset: str, params: Params, *, size: int, device_batch: int
) -> tf.data.Dataset:
    """The same as a ``tf.data.Dataset``."""
    train = subset == "train"
    options = ImageOptions.of(params)
    dtype = "float16" if params.use_fp16 else "float32"

    def prepare(index: Any, record: Any) -> Batch:
        encoded, label, boxes = tfrecords.parse(record)
        position = index % device_batch
        if train:
            seed = tf.random.fold_in((params.tf_random_seed, 0), index)
            boxes = boxes if options.use_boxes else boxes[:, :0]
            image = preprocessing.train_image(
                encoded, boxes, size=size, position=position, seed=seed, options=options
            )
        else:
            image = preprocessing.decode(encoded)
            image = preprocessing.eval_image(image, size, size, position=position, options=options)
        return tf.cast(preprocessing.normalized(image, means=options.means), dtype), label

    prepared = _records(files, params, train=train, device_batch=device_batch).enumerate()
    prepared = prepared.map(prepare, tf.data.AUTOTUNE).batch(device_batch, drop_remainder=True)
    return with_options(prepared, params)


def with_options(prepared: tf.data.Dataset, params: Params) -> tf.data.Dataset:
    """``prepared`` fetched ahead, on threads of its own if ``params`` say so."""
    options = tf.data.Options()
    on_gpu = params.device.lower() == "gpu" and bool(tf.config.list_physical_devices("GPU"))
    own = Threads.of(params, on_gpu=on_gpu).images
    if own:
        options.threading.private_threadpool_size = own
    ahead = max(params.datasets_prefetch_buffer_size, 1)
    return prepared.prefetch(ahead).with_options(options)


def _records(
    files: list[Path], params: Params, *, train: bool, device_batch: int
) -> tf.data.Dataset:
    """Serialized examples, repeated for ever; shuffled for training."""
    # Each of several workers begins with other files.
    first = int(len(files) * place_of(params))
    files = files[first:] + files[:first]
    names = tf.data.Dataset.from_tensor_slices([str(file) for file in files])
    if train:
        names = names.shuffle(len(files), seed=params.tf_random_seed)
    fetched = params.datasets_parallel_interleave_prefetch

    def opened(name: Any) -> tf.data.Dataset:
        records = tf.data.TFRecordDataset(name)
        return records.prefetch(fetched) if fetched else records

    records = names.interleave(
        opened,
        cycle_length=params.datasets_parallel_interleave_cycle_length or FILES_AT_A_TIME,
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=not params.datasets_sloppy_parallel_interleave,
    )
    if params.datasets_repeat_cached_sample:
        records = records.take(1).cache().repeat()
    records = records.prefetch(device_batch)
    if params.datasets_use_caching:
        records = records.cache()
    if train:
        records = records.shuffle(SHUFFLE_BUFFER, seed=params.tf_random_seed)
    return records.repeat()


def _reported(pipeline: tf.data.Dataset, files: list[Path]) -> Iterator[Batch]:
    """The batches of ``pipeline``; a failure of TensorFlow's becomes one that names the record."""
    try:
        yield from pipeline
    except (tf.errors.DataLossError, tf.errors.InvalidArgumentError) as error:
        raise damage(files, error) from error
