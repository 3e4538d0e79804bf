"""The files and folders that flags name, looked at before TensorFlow is imported."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from trainbench.cnn.cluster import cluster_of, own_files
from trainbench.cnn.flags.params import ParamError, Params
from trainbench.errors import DataIntegrityError, MachineError

_STEP = re.compile(r"ckpt-(\d+)$")
_FILES = (
    "result_json",
    "trace_file",
    "tfprof_file",
    "graph_file",
    "partitioned_graph_file_prefix",
)
_FOLDERS = ("benchmark_log_dir", "debug_dump_dir")


def names_checkpoint(path: str) -> bool:
    """Whether ``path`` names one checkpoint, and not a folder of them."""
    return bool(_STEP.search(path)) and not Path(path).is_dir()


def step_of(checkpoint: str) -> int:
    """The global step in a checkpoint's name; 0 when there is none."""
    found = _STEP.search(checkpoint)
    return int(found[1]) if found else 0


def check(params: Params) -> None:
    """Look whether what a run reads is there, and whether it can write what it will.

    Raises:
        ParamError: a file in the place of a folder, or the reverse.
        DataIntegrityError: there is no folder ``--data_dir``.
        MachineError: a folder that cannot be written.
    """
    if params.data_dir is not None:
        check_data_dir(Path(params.data_dir).expanduser())
    own = own_files(params, cluster_of(params))
    reads = own.eval or own.forward_only
    folders = (*_FOLDERS, *(() if reads else ("train_dir",)), *(("eval_dir",) if own.eval else ()))
    for name in folders:
        if getattr(own, name):
            _check_folder(name, Path(getattr(own, name)))
    for name in _FILES:
        if getattr(own, name):
            check_file(name, Path(getattr(own, name)))
    if own.train_dir and reads and Path(own.train_dir).is_file():
        raise _no_folder("train_dir", Path(own.train_dir))


def check_data_dir(folder: Path) -> None:
    """Look whether the folder of the images is there.

    Raises:
        DataIntegrityError: it is not.
    """
    if not folder.is_dir():
        raise DataIntegrityError(
            f"--data_dir {folder}: no such folder; name the folder of the images, or leave the "
            "flag out for synthetic images"
        )


def _check_folder(name: str, folder: Path) -> None:
    if folder.exists() and not folder.is_dir():
        raise _no_folder(name, folder)
    _check_writable(name, folder)


def check_file(name: str, file: Path) -> None:
    """Look whether the flag ``name`` can have its ``file``.

    Raises:
        ParamError: there is a folder of that name.
        MachineError: its folder cannot be written.
    """
    if file.is_dir():
        raise ParamError(f"--{name}={file}: this is a folder; name a file")
    _check_writable(name, file.parent)


def _check_writable(name: str, folder: Path) -> None:
    """Write where ``folder`` is, or will be made, and leave nothing."""
    there = next(each for each in (folder, *folder.absolute().parents) if each.exists())
    if not there.is_dir():
        raise _no_folder(name, there)
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(b"0")
    except OSError as error:
        raise MachineError(
            f"--{name}: cannot write in {there} ({os.strerror(error.errno or 0)}); make it "
            "writable, or name another place"
        ) from None


def _no_folder(name: str, path: Path) -> ParamError:
    return ParamError(f"--{name}: {path} is a file; name a folder")
