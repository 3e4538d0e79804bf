"""The command: ``trainbench cnn --model=resnet50 --batch_size=32 --device=cpu``."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trainbench.cnn import console, environment, places, rules
from trainbench.cnn.flags import arguments
from trainbench.cnn.flags.params import Params
from trainbench.cnn.mlperf import file
from trainbench.cnn.startup import Startup
from trainbench.errors import Interrupted, MachineError, TrainbenchError, system_text

if TYPE_CHECKING:
    from trainbench.cnn.benchmark import BenchmarkCNN


def main(argv: Sequence[str]) -> int:
    """Run the benchmark that ``argv`` (without the program's name) asks for.

    Returns:
        The documented exit code: 0 ok, 1 failed, 2 wrong flags, 3 damaged data, 6 out of memory
        or disk, 130 interrupted.
    """
    try:
        return _main(argv)
    except TrainbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"error: {system_text(error)}", file=sys.stderr)
        return MachineError.exit_code
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return Interrupted.exit_code


def run_child(arguments: Mapping[str, Any]) -> int:
    """The same in a process that another run started (``trials.child``), which it ends with."""
    return main(arguments["argv"])


def _main(argv: Sequence[str]) -> int:
    parsed = arguments.parse(argv)
    if parsed.help is not None:
        console.print_result(parsed.help)
        return 0
    return _run(parsed.params)


def _run(params: Params) -> int:
    """One run in this process, or several in processes of their own; or a look at the data."""
    if params.check_data:
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        from trainbench.cnn.input import check

        check.run(params)
        return 0
    if params.sweep:
        from trainbench.cnn.series import sweep

        sweep.run(params, params.sweep)
        return 0
    if params.auto_batch_size:
        from trainbench.cnn.series import batch_search

        params = batch_search.choose(params)
    if params.repeat > 1:
        from trainbench.cnn.series import repeats

        console.print_result(repeats.summary(repeats.run(params)))
        return 0
    _one(params)
    return 0


def _one(params: Params) -> None:
    # Before TensorFlow is imported, which takes seconds.
    rules.check(params)
    places.check(params)
    environment.set_variables(environment.variables(params), given=params.changed())
    startup = Startup()
    with startup.phase("import"):
        # Only now: TensorFlow reads the environment when it is imported.
        import tensorflow as tf

        from trainbench.cnn.benchmark import BenchmarkCNN

    try:
        # What cannot run is refused before the page cache is dropped and the clock started.
        benchmark = BenchmarkCNN(params, startup=startup)
        with file.logged(params, os.environ):
            _benchmark(benchmark, tf.__version__)
    except (tf.errors.ResourceExhaustedError, MemoryError) as error:
        first = (str(error).splitlines() or ["the machine has no more"])[0]
        raise MachineError(
            f"out of memory: {first}; take a smaller --batch_size, or --auto_batch_size"
        ) from error


def _benchmark(benchmark: BenchmarkCNN, version: str) -> None:
    # Its lines come before those of this function.
    benchmark.start()
    console.print_result(f"TensorFlow:  {'.'.join(version.split('.')[:2])}")
    benchmark.print_info()
    benchmark.run()
