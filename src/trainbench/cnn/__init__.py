"""Image classification: the tf_cnn_benchmarks harness for TensorFlow 2.

As a command: ``trainbench cnn --model=resnet50 --device=cpu``. As a library::

    from trainbench import cnn
    stats = cnn.BenchmarkCNN(cnn.make_params(model="trivial", device="cpu")).run()
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from trainbench.cnn.flags.params import Params, make_params

if TYPE_CHECKING:
    from trainbench.cnn.benchmark import BenchmarkCNN
    from trainbench.cnn.entry import main

__all__ = ["BenchmarkCNN", "Params", "main", "make_params"]

_MODULES = {"BenchmarkCNN": "trainbench.cnn.benchmark", "main": "trainbench.cnn.entry"}


def __getattr__(name: str) -> Any:
    # The harness imports TensorFlow, which must not happen before its environment is set; the
    # command line imports absl, which a reviewer who compares two results need not have.
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
