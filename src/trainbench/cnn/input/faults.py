"""What is wrong with records of TFRecord files: every fault with its file, number and offset."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from trainbench.cnn.input import tfrecords
from trainbench.cnn.input.tfrecords import DataError
from trainbench.progress import heartbeat

_POLYNOMIAL = 0x82F63B78
_MASK_DELTA = 0xA282EAD8


@dataclass(frozen=True)
class Fault:
    """One record that cannot be used, by its number in ``file`` and its place in bytes."""

    file: Path
    number: int
    offset: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}: record {self.number} at byte {self.offset} {self.text}"


def faults(file: Path, *, decode: bool = True) -> Iterator[Fault]:
    """Every fault of ``file``, in order; without ``decode`` those of the file's own sums alone."""
    size, offset, number = file.stat().st_size, 0, 0
    # TensorFlow's reader checks the sums quickly, but ends at the first that does not hold.
    sums_hold = _is_whole(file)
    with file.open("rb") as stream:
        while offset < size:
            stream.seek(offset)
            head = stream.read(12)
            length = int.from_bytes(head[:8], "little")
            if len(head) < 12 or not _holds(head[:8], head[8:]):
                yield Fault(
                    file,
                    number,
                    offset,
                    "is damaged (its length), so that nothing after it can be read",
                )
                return
            data, end = stream.read(length), offset + length + tfrecords.FRAME_BYTES
            if end > size:
                yield Fault(file, number, offset, "is damaged (the file ends within it)")
                return
            if not sums_hold and not _holds(data, stream.read(4)):
                yield Fault(file, number, offset, "is damaged (it does not fit its checksum)")
            elif decode and (text := _wrong(data)):
                yield Fault(file, number, offset, text)
            offset, number = end, number + 1


def damage(files: Sequence[Path], cause: tf.errors.OpError) -> DataError:
    """The error for the first record that cannot be used, found by reading the files again."""
    # A record that does not fit its checksum is found without decoding those before it.
    decode = not isinstance(cause, tf.errors.DataLossError)
    with heartbeat("looking for the damaged record"):
        for file in files:
            for fault in faults(file, decode=decode):
                return DataError(f"{fault}; write the file again or remove it")
    return DataError(f"{files[0].parent}: an image could not be read: {_plain(cause)}")


def of(files: Sequence[Path]) -> Iterator[Fault]:
    """Every fault of ``files``, in order."""
    with heartbeat("checking the records"), ThreadPoolExecutor() as pool:
        for found in pool.map(lambda file: list(faults(file)), files):
            yield from found


def _is_whole(file: Path) -> bool:
    try:
        for _ in tf.data.TFRecordDataset(str(file)).batch(64):
            pass
    except tf.errors.DataLossError:
        return False
    return True


def _wrong(data: bytes) -> str | None:
    """Why a record is none of an image for training."""
    try:
        encoded, label, boxes = (part.numpy() for part in tfrecords.fields(data))
    except tf.errors.InvalidArgumentError as error:
        return f"is not an image ({_plain(error)})"
    if not encoded.startswith(tfrecords.JPEG):
        kind = "PNG" if encoded.startswith(b"\x89PNG") else "no JPEG"
        return f"is not an image as wanted ({kind}; wanted JPEG)"
    try:
        tf.io.decode_jpeg(encoded)
    except tf.errors.InvalidArgumentError as error:
        return f"is not an image ({_plain(error)})"
    if not 0 <= label < tfrecords.CLASSES:
        return f"has label {label}, wanted 0 to {tfrecords.CLASSES - 1}"
    low, high = boxes[0, :, :2], boxes[0, :, 2:]
    if not ((low >= 0) & (high <= 1) & (low <= high)).all():
        return f"has a box that is not within 0 to 1: {np.round(boxes[0], 3).tolist()}"
    return None


def _holds(data: bytes, stored: bytes) -> bool:
    """Whether a masked CRC-32C, as TFRecord files have it, is that of ``data``."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    masked = (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF
    return masked == int.from_bytes(stored, "little")


def _table() -> list[int]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
        table.append(value)
    return table


_TABLE = _table()


def _plain(error: tf.errors.OpError) -> str:
    """TensorFlow's words without the names of its nodes."""
    plain = re.sub(r"\{\{.*?\}\}|\[Op:.*", "", error.message).strip()
    return plain.splitlines()[0][:200] if plain else "no reason given"
