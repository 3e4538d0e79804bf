"""Graphs of the compiled step as files: before, and after, TensorFlow divides and improves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tensorflow as tf

# The runtime hands out the graphs of its devices through this private door alone.
from tensorflow.python.eager import context

from trainbench.cnn import console
from trainbench.cnn.flags.params import Params
from trainbench.cnn.input.batches import Batch
from trainbench.cnn.train.executor import Executor
from trainbench.errors import TrainbenchError


def traced(params: Params, executor: Executor, batches: list[Batch], rate: float) -> Any:
    """The graph of one step of a run, for batches like ``batches``."""
    if params.forward_only:
        return executor.infer.get_concrete_function(batches).graph
    return executor.train.get_concrete_function(batches, tf.constant(rate, tf.float32)).graph


def write_graph(path: str, graph: Any) -> None:
    """Write ``graph`` as a GraphDef: as text if ``path`` ends with txt, otherwise binary."""
    console.print_result(f"Writing GraphDef as {_form(path)} to {path}")
    _write(Path(path), graph.as_graph_def(add_shapes=True), as_text=path.endswith("txt"))


class PartitionedGraphs:
    """``--partitioned_graph_file_prefix``: the optimized graph of each device. Experimental.

    The runtime keeps them only when a function is first run, so the first step is the one.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = Path(prefix)
        self._waiting = True
        context.context().enable_graph_collection()

    def before_step(self, local_step: int) -> None:
        """Nothing: the runtime collects since this was made."""

    def after_step(self) -> None:
        """Write the graphs once there are any."""
        if self._waiting:
            self._waiting = False
            # The function with the largest graph is the step; the input has small ones.
            functions = self._collected()
            for graph in max(functions, key=lambda found: sum(len(g.node) for g in found)):
                self._write(graph)

    def close(self) -> None:
        """Stop collecting where no step ran."""
        if self._waiting:
            context.context().disable_graph_collection()

    def _collected(self) -> list[Any]:
        try:
            metadata = context.context().export_run_metadata()
        finally:
            context.context().disable_graph_collection()
        found = [list(function.partition_graphs) for function in metadata.function_graphs]
        if not any(found):
            raise TrainbenchError(
                f"--partitioned_graph_file_prefix={self._prefix}: the runtime handed out no graph; "
                "use --graph_file for the graph before it is divided"
            )
        return found

    def _write(self, graph: Any) -> None:
        device = graph.node[0].device.replace("/", "_").replace(":", "_")
        path = self._prefix.with_name(f"{self._prefix.stem}{device}{self._prefix.suffix}")
        console.print_result(
            f"Writing partitioned GraphDef as {_form(str(self._prefix))} to {path}"
        )
        _write(path, graph, as_text=str(self._prefix).endswith("txt"))


def _form(path: str) -> str:
    return "text" if path.endswith("txt") else "binary"


def _write(path: Path, graph: Any, *, as_text: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    tf.io.write_graph(graph, str(path.parent), path.name, as_text=as_text)
