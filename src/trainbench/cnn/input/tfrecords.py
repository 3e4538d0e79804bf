"""TFRecord files of images: their names, their number of records, their fields."""

from __future__ import annotations

from collections.abc import Sequence
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
CLASSES = 1001
"""Labels are 0, the background, to 1000."""
JPEG = b"\xff\xd8\xff"
"""How the bytes of a JPEG image begin."""
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
    """JPEG bytes, int32 label and float32[1, n, 4] boxes (ymin, xmin, ymax, xmax) of a record.

    In a graph, a record of another format or with a label that is no class ends the run.
    """
    encoded, label, boxes = fields(record)
    checks = [
        tf.debugging.Assert(tf.strings.substr(encoded, 0, len(JPEG)) == JPEG, ["no JPEG"]),
        tf.debugging.Assert((label >= 0) & (label < CLASSES), ["label", label]),
    ]
    with tf.control_dependencies(checks):
        return tf.identity(encoded), tf.cast(label, tf.int32), boxes


def fields(record: Any) -> tuple[Any, Any, Any]:
    """The same as they are stored, whatever they are; the label is int64."""
    corners = [f"image/object/bbox/{corner}" for corner in _CORNERS]
    wanted: dict[str, Any] = {name: tf.io.VarLenFeature(tf.float32) for name in corners}
    wanted["image/encoded"] = tf.io.FixedLenFeature([], tf.string)
    wanted["image/class/label"] = tf.io.FixedLenFeature([1], tf.int64)
    values = tf.io.parse_single_example(record, wanted)
    boxes = tf.stack([values[name].values for name in corners], axis=-1)[tf.newaxis]
    return values["image/encoded"], values["image/class/label"][0], boxes


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
