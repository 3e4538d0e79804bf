"""``--debugger=cli`` and ``--debug_dump_dir``: where the first NaN comes from."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf

from trainbench.cnn import console
from trainbench.cnn.flags.params import Params
from trainbench.errors import TrainbenchError
from trainbench.files import PACKAGE

# Tensors kept of each operation: the newest, so that a long run does not fill the disk.
_KEPT = 1000


@contextmanager
def numerics_checked(params: Params) -> Iterator[None]:
    """Look at every tensor that is computed inside, as ``params`` ask.

    Both switches belong to the thread and are put back, because a library's next run may not
    want them.

    Raises:
        TrainbenchError: an operation gave NaN or infinity, with its name and the line it came from.
    """
    if params.debugger is None and params.debug_dump_dir is None:
        yield
        return
    dump = None
    if params.debugger is not None:
        console.print_result("Every tensor is checked for NaN and infinity.")
        # Whole paths: by default TensorFlow shows the last 50 characters only.
        tf.debugging.enable_check_numerics(path_length_limit=None)
    if params.debug_dump_dir is not None:
        console.print_result(f"Writing debug information to {params.debug_dump_dir}")
        dump = tf.debugging.experimental.enable_dump_debug_info(
            params.debug_dump_dir,
            tensor_debug_mode="FULL_HEALTH",
            circular_buffer_size=_KEPT,
        )
    try:
        yield
    except tf.errors.InvalidArgumentError as error:
        found = summary(str(error))
        if found is None:
            raise
        raise TrainbenchError(found) from error
    finally:
        if dump is not None:
            dump.FlushNonExecutionFiles()
            dump.FlushExecutionFiles()
            tf.debugging.experimental.disable_dump_debug_info()
        if params.debugger is not None:
            tf.debugging.disable_check_numerics()


def summary(message: str) -> str | None:
    """One line from the report of a failed check; ``None`` if ``message`` is something else."""
    found = re.search(r"Detected (.+?) in output (\d+) of (?:graph|eagerly-executing) op (.+?) ",
                      message)  # fmt: skip
    if found is None:
        return None
    text = f"{found[1]} in output {found[2]} of operation {found[3]}"
    shape = re.search(r"shape: (.+)", message)
    # The innermost of our own lines: what is below them is TensorFlow's and Keras's.
    frames = [(Path(file), line) for file, line in re.findall(r"\+ (.+) \(L(\d+)\)", message)]
    own = [(file, line) for file, line in frames if file.is_relative_to(PACKAGE)]
    text += f", shape {shape[1]}" if shape else ""
    if own:
        file, line = own[-1]
        text += f", made at {file.relative_to(PACKAGE.parent)}:{line}"
    return text
