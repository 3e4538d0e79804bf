"""The graph of the compiled step as a file, and the forward pass with constant variables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from trainbench.cnn import output
from trainbench.cnn.step import Batch, Step
from trainbench.cnn.training import Loop


def write_graph(path: str, loop: Loop) -> None:
    """Write the step's GraphDef: as text if ``path`` ends with txt, otherwise binary."""
    as_text = path.endswith("txt")
    output.say(f"Writing GraphDef as {'text' if as_text else 'binary'} to {path}")
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    graph = loop.graph().as_graph_def(add_shapes=True)
    tf.io.write_graph(graph, str(target.parent), target.name, as_text=as_text)


def freeze(step: Step, batches: list[Batch]) -> None:
    """Make the forward pass of ``step`` one without variables, for batches like ``batches``."""
    traced = step.infer.get_concrete_function(batches)
    names = sorted(traced.structured_outputs)
    frozen = convert_variables_to_constants_v2(traced)

    def infer(batches: list[Batch]) -> dict[str, Any]:
        return dict(zip(names, frozen(*tf.nest.flatten(batches)), strict=True))

    step.infer = infer
