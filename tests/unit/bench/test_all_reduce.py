"""The reduction alone, on the shapes of a model."""

from __future__ import annotations

import re

import pytest
import tensorflow as tf
from click.testing import CliRunner

# The runtime hands out the graphs that it made through this private door alone.
from tensorflow.python.eager import context

from trainbench import cnn
from trainbench.bench import all_reduce
from trainbench.cli.main import cli
from trainbench.cnn.flags.params import ParamError
from trainbench.cnn.train.strategies import Strategy

LENET = {
    "device": "cpu", "model": "lenet", "num_gpus": 2, "num_batches": 2, "num_warmup_batches": 1,
}  # fmt: skip


@pytest.mark.parametrize(
    "values",
    [
        {"variable_update": "parameter_server"},
        {"variable_update": "replicated"},
        {"variable_update": "replicated", "all_reduce_spec": "pscpu"},
        {"variable_update": "replicated", "gradient_repacking": 2},
        {"variable_update": "replicated", "agg_small_grads_max_bytes": 4096},
        {"variable_update": "collective_all_reduce", "all_reduce_spec": "collective"},
    ],
)
def test_a_local_reduction_is_timed(values: dict, capsys: pytest.CaptureFixture) -> None:
    timing = all_reduce.run(cnn.make_params(**LENET, **values))
    printed = capsys.readouterr().out
    (seconds,) = re.findall(r"\nAverage time per step: ([0-9.]+)\n$", printed)
    assert timing is not None
    assert len(timing.times_s) == 2
    assert float(seconds) == pytest.approx(sum(timing.times_s) / 2, abs=1e-6)
    # LeNet on ImageNet: two convolutions and two dense layers, each with its biases.
    assert "Reducing 8 tensors of" in printed


def test_every_tensor_is_summed_in_every_reduction() -> None:
    params = cnn.make_params(variable_update="replicated", num_gpus=2)
    strategy = Strategy.of(params, ["/cpu:0"] * 2)
    towers = all_reduce.gradients(strategy.devices, [(3, 2), (4,), ()])
    step = all_reduce.reduction(strategy, count=5)
    # Two devices have each sum, and the first elements of all are the number that comes back.
    wanted = 2 * sum(float(tf.reshape(one + two, [-1])[0]) for one, two in zip(*towers))  # noqa: B905
    assert float(step(towers)) == pytest.approx(wanted, rel=1e-5)
    graph = step.get_concrete_function(towers).graph
    assert [op.type for op in graph.get_operations()].count("AddN") == 5 * 3 + 1


def sums_run(count: int) -> int:
    """How many sums of two devices are left in the graph that the runtime makes of a step."""
    params = cnn.make_params(variable_update="replicated", num_gpus=2)
    strategy = Strategy.of(params, ["/cpu:0"] * 2)
    towers = all_reduce.gradients(strategy.devices, [(8,)] * 4)
    context.context().enable_graph_collection()
    try:
        all_reduce.reduction(strategy, count=count)(towers)
        functions = context.context().export_run_metadata().function_graphs
    finally:
        context.context().disable_graph_collection()
    graphs = [graph for function in functions for graph in function.partition_graphs]
    return max([node.op for node in graph.node].count("AddN") for graph in graphs)


def test_all_five_reductions_of_a_step_are_run() -> None:
    # One more sum makes the number that comes back.
    with all_reduce.as_written():
        assert [sums_run(1), sums_run(5)] == [4 + 1, 5 * 4 + 1]
    # The rewriter of graphs would leave some of them out.
    assert sums_run(5) < 5 * 4 + 1


def test_the_result_is_in_seconds_and_bytes_of_one_device() -> None:
    timing = all_reduce.Timing([0.5, 1.5], reductions=5, num_bytes=10**9, devices=2)
    assert timing.lines() == [
        "Average time per reduction: 0.200000 s, 5.000 GB/s of one device's gradients",
        "Average time per step: 1.000000",
    ]


@pytest.mark.parametrize(
    "values",
    [
        {"variable_update": "independent"},
        {"job_name": "worker", "worker_hosts": "a:1", "ps_hosts": "b:1"},
    ],
)
def test_what_combines_nothing_is_refused(values: dict) -> None:
    with pytest.raises(ParamError, match="combines no gradients"):
        all_reduce.check(cnn.make_params(**values))


def test_the_command_takes_the_flags_of_the_benchmark() -> None:
    flags = ["--model=lenet", "--variable_update=independent", "--device=cpu"]
    found = CliRunner().invoke(cli, ["bench", "all-reduce", *flags])
    assert isinstance(found.exception, ParamError)
    assert "--iters_per_step" in CliRunner().invoke(cli, ["bench", "all-reduce", "--help"]).output
