"""The command: ``trainbench cnn --model=resnet50 --batch_size=32 --device=cpu``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from trainbench.cnn import arguments, environment, output
from trainbench.errors import Interrupted, TrainbenchError


def main(argv: Sequence[str]) -> int:
    """Run the benchmark that ``argv`` (without the program's name) asks for.

    Returns:
        The documented exit code: 0 ok, 1 failed, 2 wrong flags, 3 damaged data, 130 interrupted.
    """
    try:
        return _main(argv)
    except TrainbenchError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        return Interrupted.exit_code


def _main(argv: Sequence[str]) -> int:
    parsed = arguments.parse(argv)
    if parsed.help is not None:
        output.say(parsed.help)
        return 0
    params = parsed.params
    environment.set_variables(environment.variables(params))
    # Only now: TensorFlow reads the environment when it is imported.
    import tensorflow as tf

    from trainbench.cnn.harness import BenchmarkCNN

    benchmark = BenchmarkCNN(params)
    output.say(f"TensorFlow:  {'.'.join(tf.__version__.split('.')[:2])}")
    benchmark.print_info()
    benchmark.run()
    return 0
