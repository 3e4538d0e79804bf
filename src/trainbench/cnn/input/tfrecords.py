"""TFRecord files of images: their names, their fields, what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import tensorflow as tf

from trainbench.errors import DataIntegrityError
from trainbench.files import whole_file
from trainbench.progress import heartbeat

FRAME_BYTES = 16
"""Of each record beside its data: the length, and a checksum of either."""
FILES_AT_A_TIME = 16
_CORNERS = ("ymin", "xmin", "ymax", "xmax")


class DataError(DataIntegrityError, ValueError):
    """Files that are missing, empty or damaged."""


def files(folder: Path, subset: str) -> list[Path]:
    """The files of ``subset`` in ``folder``, in order.

    Raises:
        DataError: there are none, or they are empty.
    """
    pattern = f"{subset}-*-of-*"
    found = sorted(folder.glob(pattern))
    if not found:
        raise DataError(f"Found no files in --data_dir matching: {folder / pattern}")
    empty = [file for file in found if file.stat().st_size == 0]
    if empty:
        raise DataError(f"{empty[0]}: the file is empty; write it again or remove it")
    return found


def count(files: Sequence[Path]) -> int:
    """Records in ``files``, by their lengths alone: no image is read.

    Raises:
        DataError: a file ends within a record.
    """
    with heartbeat("counting records"), ThreadPoolExecutor(FILES_AT_A_TIME) as pool:
        return sum(pool.map(_count, files))


def parse(record: Any) -> tuple[Any, Any, Any]:
    """JPEG bytes, int32 label and float32[1, n, 4] boxes (ymin, xmin, ymax, xmax) of a record."""
    corners = [f"image/object/bbox/{corner}" for corner in _CORNERS]
    fields: dict[str, Any] = {name: tf.io.VarLenFeature(tf.float32) for name in corners}
    fields["image/encoded"] = tf.io.FixedLenFeature([], tf.string)
    fields["image/class/label"] = tf.io.FixedLenFeature([1], tf.int64)
    values = tf.io.parse_single_example(record, fields)
    boxes = tf.stack([values[name].values for name in corners], axis=-1)[tf.newaxis]
    label = tf.cast(values["image/class/label"][0], tf.int32)
    return values["image/encoded"], label, boxes


def damage(files: list[Path], cause: tf.errors.OpError) -> DataError:
    """The error for the first record that cannot be used, found by reading the files again."""
    # A record that does not fit its checksum is found without decoding those before it.
    decode = not isinstance(cause, tf.errors.DataLossError)
    with heartbeat("looking for the damaged record"):
        for file in files:
            fault = _fault(file, decode)
            if fault:
                return DataError(f"{file}: {fault}; write the file again or remove it")
    return DataError(f"{files[0].parent}: an image could not be read: {_plain(cause)}")


def write(file: Path, examples: list[bytes]) -> None:
    """Write serialized examples to ``file``, which is whole or absent at any time."""
    with whole_file(file) as part, tf.io.TFRecordWriter(str(part)) as writer:
        for example in examples:
            writer.write(example)


def example(encoded: bytes, label: int, box: tuple[float, float, float, float]) -> bytes:
    """A serialized record of one JPEG file; ``box`` is (ymin, xmin, ymax, xmax) in 0 to 1."""
    fields = {
        "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[encoded])),
        "image/class/label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
    }
    for corner, value in zip(_CORNERS, box, strict=True):
        numbers = tf.train.FloatList(value=[value])
        fields[f"image/object/bbox/{corner}"] = tf.train.Feature(float_list=numbers)
    features = tf.train.Features(feature=fields)
    serialized: bytes = tf.train.Example(features=features).SerializeToString(deterministic=True)
    return serialized


def _count(file: Path) -> int:
    size, offset, number = file.stat().st_size, 0, 0
    with file.open("rb", buffering=0) as stream:
        while offset < size:
            stream.seek(offset)
            head = stream.read(8)
            end = offset + int.from_bytes(head, "little") + FRAME_BYTES
            if len(head) < 8 or end > size:
                raise DataError(
                    f"{file}: record {number} at byte {offset} is damaged (the file ends within "
                    "it); write the file again or remove it"
                )
            offset, number = end, number + 1
    return number


def _fault(file: Path, decode: bool) -> str | None:
    """What is wrong with the first bad record of ``file``, and where."""
    offset = 0
    records = _read(file)
    for number in range(file.stat().st_size):
        where = f"record {number} at byte {offset}"
        try:
            record = next(records, None)
            if record is None:
                return None
            if decode:
                tf.io.decode_jpeg(parse(record)[0])
        except tf.errors.DataLossError as error:
            return f"{where} is damaged ({_plain(error)})"
        except tf.errors.InvalidArgumentError as error:
            return f"{where} is not an image ({_plain(error)})"
        offset += len(record) + FRAME_BYTES
    return None


def _read(file: Path) -> Iterator[bytes]:
    for record in tf.data.TFRecordDataset(str(file)):
        yield record.numpy()


def _plain(error: tf.errors.OpError) -> str:
    """TensorFlow's words without the names of its nodes."""
    plain = re.sub(r"\{\{.*?\}\}|\[Op:.*", "", error.message).strip()
    return plain.splitlines()[0][:200] if plain else "no reason given"
