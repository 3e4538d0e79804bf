"""``--check_data``: every record that a run could not use, before a run meets it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from trainbench.cnn import console
from trainbench.cnn.flags.params import Params
from trainbench.cnn.input import cifar10, datasets, faults, tfrecords
from trainbench.cnn.places import check_data_dir
from trainbench.errors import DataIntegrityError


def run(params: Params) -> None:
    """Print a line for each fault of the images in the folder ``params.check_data``.

    Raises:
        ParamError: the folder's name does not tell which data set it is, and no flag does.
        DataIntegrityError: there is no such folder, or there are faults.
    """
    name = datasets.name_of(params.replace(data_dir=params.check_data))
    folder = Path(params.check_data or "").expanduser()
    check_data_dir(folder)
    count = 0
    for fault in _faults(name, folder):
        console.print_result(fault)
        count += 1
    if count:
        raise DataIntegrityError(
            f"{folder}: {count} fault{'s' * (count > 1)}; write the files again or remove them"
        )
    console.print_result(f"{folder}: every record can be used")


def _faults(name: str, folder: Path) -> Iterator[str]:
    for subset in ("train", "validation"):
        if name == "cifar10":
            yield from cifar10.faults(folder, subset)
            continue
        try:
            yield from map(str, faults.of(tfrecords.files(folder, subset)))
        except DataIntegrityError as error:
            yield str(error)
